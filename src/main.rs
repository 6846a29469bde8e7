//! The one binary: words to commands, results to exit statuses.
//!
//! Must not do anything itself.

use nodemanager::cli::args::{self, Args, Command, Common, Down, Logs, Names, OnOff, Page};
use nodemanager::cli::control::{self, Action, Options, Servers};
use nodemanager::cli::enable::{self, Change};
use nodemanager::cli::logs::{self, LogsOptions, choose};
use nodemanager::cli::watch::{self, Watch};
use nodemanager::cli::{Failure, apply, events, exit, help, import, pair, print, rolling, status};
use nodemanager::config::{self, Config, ConfigErrors, Unset};
use nodemanager::doctor;
use nodemanager::launch::{self, Inner};
use nodemanager::offline;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    ExitCode::from(run(&mut out, &mut err))
}

fn run(out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let args = match args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(failure) if failure.exit == exit::DONE => return print(out, &failure.text, exit::DONE),
        Err(failure) => return print(err, &failure.text, failure.exit),
    };
    match &args.command {
        Command::Keeper { from } => return launch::inner(Inner::Keeper { from: *from }),
        Command::Active => return launch::inner(Inner::Active),
        Command::Standby => return launch::inner(Inner::Standby),
        Command::Mover => return launch::inner(Inner::Mover),
        Command::Saver => return launch::inner(Inner::Saver),
        Command::Compressor => return launch::inner(Inner::Compressor),
        Command::Applier => return launch::inner(Inner::Applier),
        Command::Prover => return launch::inner(Inner::Prover),
        Command::Import(asked) => return import::import(asked, out, err),
        Command::Completions { shell } => return print_bytes(out, &help::completions(*shell)),
        Command::Man { page: Page::Configuration } => {
            return print_bytes(out, &help::page_of_configuration());
        }
        Command::Man { page: Page::Nodemanager } => {
            return print_bytes(out, &help::page_of_commands().unwrap_or_default());
        }
        Command::Doctor => {
            let file = config::find_file(args.common.config.as_deref());
            return doctor::doctor(&file, args.common.json, out);
        }
        Command::Mailer => return launch::inner(Inner::Mailer),
        _ => {}
    }
    let file = config::find_file(args.common.config.as_deref());
    // The environment that counts is that of the pair: `run` reads it. Only these two start servers
    // or judge whether they could be started: others need not be root.
    let config = match args.command {
        Command::Run { .. } | Command::Check { .. } => {
            config::load(&file).and_then(launch::with_accounts)
        }
        // These are about the file itself.
        Command::Diff { .. } | Command::Apply { .. } => config::load_for_command(&file),
        _ => config::load_for_command(&file).or_else(|errors| in_force(&file, errors, err)),
    };
    match config {
        Ok(config) => command(args, config, out, err),
        Err(errors) => print(err, &format!("{errors}\n"), exit::BAD_CONFIG),
    }
}

fn print_bytes(out: &mut dyn Write, bytes: &[u8]) -> u8 {
    print(out, &String::from_utf8_lossy(bytes), exit::DONE)
}

/// Somebody may have broken the file while the pair runs: it can be looked at and stopped all the same.
fn in_force(
    file: &Path,
    errors: ConfigErrors,
    err: &mut dyn Write,
) -> Result<Config, ConfigErrors> {
    let Some(config) = launch::config_in_force(file) else { return Err(errors) };
    let errors = errors.to_string().replace('\n', "\nwarning: ");
    let text =
        format!("warning: {errors}\nwarning: the pair goes on with the configuration in force\n");
    print(err, &text, exit::DONE);
    Ok(config)
}

fn command(args: Args, config: Config, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let common = args.common;
    match args.command {
        Command::Run { detach: false, background } => launch::run(config, background, out, err),
        Command::Run { detach: true, .. } => launch::detach(&config, options(&common), out, err),
        Command::Check { effective } if effective || common.json => {
            show_effective(&config, &common, out, err)
        }
        Command::Check { .. } => check(&config, out, err),
        Command::Status { names, watch: true, .. } => watch_status(config, names, &common, err),
        Command::Status { names, pair, no_header, watch: false } => {
            let view = status::View {
                json: common.json,
                pair_only: pair,
                no_header,
                columns: nodemanager::sys::terminal_columns(),
                has_colours: has_colours(),
            };
            show_status(&config, &names, view, &common, out, err)
        }
        Command::Pid(Names { names }) => match fetch(&config, &names, &common) {
            Ok(found) => status::show_pids(found, &names, out, err),
            Err(failure) => failure.print(err),
        },
        Command::Logs(options) => show_logs(&config, options, common.json, out, err),
        Command::Events(options) => show_events(&config, options, common.json, out, err),
        Command::Maintail { .. } => exit::USAGE,
        // Taken care of before a configuration is read.
        Command::Keeper { .. }
        | Command::Active
        | Command::Standby
        | Command::Mover
        | Command::Saver
        | Command::Compressor
        | Command::Applier
        | Command::Mailer
        | Command::Prover
        | Command::Import(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Doctor => exit::USAGE,
        of_pair @ (Command::Diff { .. }
        | Command::Apply { .. }
        | Command::Switchover
        | Command::Upgrade
        | Command::Maintenance { .. }
        | Command::Shutdown { .. }) => about_pair(&config, of_pair, &common, out, err),
        of_servers => about_servers(&config, of_servers, &common, out, err),
    }
}

fn show_status(
    config: &Config,
    names: &[String],
    view: status::View,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match fetch(config, names, common) {
        Ok(found) => status::show(found, names, view, jiff::Timestamp::now(), out, err),
        Err(failure) => failure.print(err),
    }
}

fn watch_status(config: Config, names: Vec<String>, common: &Common, err: &mut dyn Write) -> u8 {
    let (client, json) = (launch::client(&config), common.json);
    let (of_fetch, common) = (config.clone(), common.clone());
    let fetch: watch::Fetch = Box::new(move |more: &[String], limit| {
        let common = Common { timeout: Some(limit), ..common.clone() };
        let mut found = fetch(&of_fetch, more, &common)?;
        status::narrow(&mut found, &names)?;
        Ok(found)
    });
    watch::run(Watch { config, client, fetch, json, has_colours: has_colours() }, err)
}

/// What is asked of servers.
fn about_servers(
    config: &Config,
    command: Command,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match command {
        Command::Start(names) => act(config, Action::Start, names, common, out, err),
        Command::Stop(down) => act_down(config, Action::Stop, down, common, out, err),
        Command::Restart { down, rolling: false } => {
            act_down(config, Action::Restart, down, common, out, err)
        }
        Command::Restart { down, rolling: true } => {
            let options = Options { dependants: down.dependants(), ..options(common) };
            rolling::restart(&launch::client(config), &down.names.names, options, out, err)
        }
        Command::Reload(names) => act(config, Action::Reload, names, common, out, err),
        Command::Drain(down) => act_down(config, Action::Drain, down, common, out, err),
        Command::Enable { names, now } => {
            let change = Change { names: names.names, is_enabled: true, now };
            enable::enable(&launch::client(config), config, change, options(common), out, err)
        }
        Command::Disable { down, now } => {
            let options = Options { dependants: down.dependants(), ..options(common) };
            let change = Change { names: down.names.names, is_enabled: false, now };
            enable::enable(&launch::client(config), config, change, options, out, err)
        }
        Command::Kill(names) => act(config, Action::Kill, names, common, out, err),
        Command::Reset(names) => act(config, Action::Reset, names, common, out, err),
        Command::Signal { signal, names } => {
            act(config, Action::Signal(signal), names, common, out, err)
        }
        Command::Wait(wait) => {
            let action = Action::Wait(wait.goal());
            act(config, action, wait.names, common, out, err)
        }
        _ => exit::USAGE,
    }
}

/// What is asked of the pair itself.
fn about_pair(
    config: &Config,
    command: Command,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let (client, options) = (launch::client(config), options(common));
    match command {
        Command::Diff { names } => apply::diff(&client, names, options, out, err),
        Command::Apply { names } => apply::apply(&client, names, options, out, err),
        Command::Switchover => pair::switch_over(&client, options, out, err),
        Command::Upgrade => pair::upgrade(&client, options, out, err),
        Command::Maintenance { state } => {
            pair::maintain(&client, state == OnOff::On, options, out, err)
        }
        Command::Shutdown { stop_servers, .. } => shutdown(config, stop_servers, common, out, err),
        _ => exit::USAGE,
    }
}

fn check(config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match warnings(config, err) {
        exit::DONE => print(out, &config::effective_lines(config), exit::DONE),
        exit => exit,
    }
}

/// What is allowed but probably not meant; and whether it can be run here.
fn warnings(config: &Config, err: &mut dyn Write) -> u8 {
    for warning in &config.warnings {
        print(err, &format!("warning: {warning}\n"), exit::DONE);
    }
    enable::warn_of_list(config, err);
    let checked = launch::check_fits(config).and_then(|()| launch::check_rights(config));
    match checked {
        Ok(()) => exit::DONE,
        Err(text) => Failure::new(exit::BAD_CONFIG, text).print(err),
    }
}

/// Each value with where it is from.
fn show_effective(
    config: &Config,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let checked = warnings(config, err);
    if checked != exit::DONE {
        return checked;
    }
    let read = config::read_all(&config.file, Unset::Refuse);
    match read.and_then(|input| config::effective(&input)) {
        Ok(effective) if common.json => print(out, &format!("{}\n", effective.to_json()), checked),
        Ok(effective) => print(out, &effective.to_toml(), checked),
        Err(errors) => print(err, &format!("{errors}\n"), exit::BAD_CONFIG),
    }
}

/// From the pair, or without one from the journal.
fn fetch(
    config: &Config,
    names: &[String],
    common: &Common,
) -> Result<nodemanager::api::Status, Failure> {
    match status::fetch(&launch::client(config), names, common.timeout) {
        Err(failure) if failure.exit == exit::NOT_RUNNING => {
            let records = offline::read(config).map_err(|text| {
                Failure::new(exit::NOT_RUNNING, format!("{}; {text}", failure.text))
            })?;
            Ok(records.status(config))
        }
        other => other,
    }
}

fn options(common: &Common) -> Options {
    Options {
        json: common.json,
        timeout: common.timeout,
        no_wait: common.no_wait,
        dependants: None,
        shows_progress: io::stderr().is_terminal() && !is_dumb(),
    }
}

fn act(
    config: &Config,
    action: Action,
    names: Names,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    control::act(&launch::client(config), action, names.names, options(common), out, err)
}

fn act_down(
    config: &Config,
    action: Action,
    down: Down,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let options = Options { dependants: down.dependants(), ..options(common) };
    control::act(&launch::client(config), action, down.names.names, options, out, err)
}

fn shutdown(
    config: &Config,
    stop_servers: bool,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let client = launch::client(config);
    let servers = if stop_servers { Servers::Stop } else { Servers::Keep };
    let is_running = status::fetch(&client, &[], common.timeout)
        .err()
        .is_none_or(|failure| failure.exit != exit::NOT_RUNNING);
    if is_running || !stop_servers {
        return control::shutdown(&client, servers, options(common), out, err);
    }
    match offline::read(config) {
        Ok(records) => {
            let (lines, is_done) = records.stop_all(config);
            let text = match lines.is_empty() {
                true => "no node manager runs, and no server was left up\n".to_string(),
                false => lines.join("\n") + "\n",
            };
            print(out, &text, if is_done { exit::DONE } else { exit::FAILED })
        }
        Err(text) => Failure::new(exit::NOT_RUNNING, text).print(err),
    }
}

fn show_logs(
    config: &Config,
    options: Logs,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if options.reopen {
        return launch::reopen_logs(config, out, err);
    }
    let is_own = options.self_log || options.standby;
    let chosen = match is_own {
        true => Ok(launch::own_log(config, options.standby)),
        false => {
            let is_stderr = (options.stdout || options.stderr).then_some(options.stderr);
            choose::of_servers(config, &options.names, is_stderr)
        }
    };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(text) => return Failure::new(exit::UNKNOWN_NAME, text).print(err),
    };
    for text in &chosen.elsewhere {
        Failure::new(exit::FAILED, text).print(err);
    }
    if chosen.files.is_empty() {
        return exit::FAILED;
    }
    let options = LogsOptions {
        follow: options.follow,
        lines: options.lines.map(|lines| lines as usize),
        since: options.since,
        files: chosen.files,
        has_colours: has_colours(),
        json,
    };
    match logs::run(&options, out) {
        Ok(()) => exit::DONE,
        Err(error) => Failure::new(exit::FAILED, error.to_string()).print(err),
    }
}

fn show_events(
    config: &Config,
    options: args::Events,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let options = events::Options {
        follow: options.follow,
        lines: options.lines.map(|lines| lines as usize),
        since: options.since,
        kinds: options.kinds,
        names: options.names,
        json,
        has_colours: has_colours(),
    };
    events::show(config, &options, out, err)
}

/// A terminal has colours unless NO_COLOR (no-color.org) says otherwise.
fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
