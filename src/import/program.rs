//! One `[program:x]` or `[fcgi-program:x]` as a `[[server]]`.
//!
//! Must not know other sections: what it needs of them is in [`Context`].

use super::ini::{Item, Section};
use super::percent::{self, Scope};
use super::words;
use super::written::{self, array, comment, string};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What of the rest of the file matters to a program.
#[derive(Debug, Default)]
pub struct Context {
    /// The directory of the file, for `%(here)s`.
    pub here: String,
    pub host: String,
    /// `directory` of `[supervisord]`.
    pub directory: Option<Item>,
    /// `umask` of `[supervisord]`.
    pub umask: Option<Item>,
    /// `user` of `[supervisord]`.
    pub user: Option<Item>,
    /// `environment` of `[supervisord]`.
    pub environment: Option<Item>,
    /// `[group:x]` with this program in it.
    pub groups: Vec<String>,
    /// Servers that start before it by their `priority`.
    pub before: Vec<String>,
    /// Names that are taken.
    pub taken: BTreeSet<String>,
}

/// A program while it is written.
pub struct Program<'a> {
    section: &'a Section,
    pub context: &'a Context,
    scope: Scope,
    used: RefCell<BTreeSet<String>>,
    /// What is said before the table.
    pub notes: Vec<String>,
    /// The keys of the table.
    pub lines: Vec<String>,
}

/// The `[[server]]` table of a program, and the name that it has there.
pub fn server(section: &Section, context: &Context) -> (String, String) {
    let is_fcgi = section.name.starts_with("fcgi-program:");
    let program = section.name.split_once(':').map_or("", |(_, name)| name.trim()).to_owned();
    let mut name = written::name(&program);
    while context.taken.contains(&name) {
        name.push_str("-2");
    }
    let mut writer = Program {
        section,
        context,
        scope: Scope::default(),
        used: RefCell::default(),
        notes: Vec::new(),
        lines: vec![format!("name = {}", written::plain(&name))],
    };
    let place = &section.place;
    if name != program {
        writer.notes.push(format!("{place}: {program:?} can't be a name here"));
    }
    writer.set_scope(&program, is_fcgi);
    let command = writer.command(is_fcgi);
    writer.tags();
    writer.process();
    writer.environment();
    writer.starting();
    writer.restart();
    writer.stop();
    super::output::write(&mut writer);
    if is_fcgi {
        writer.socket();
    }
    writer.vars();
    writer.rest();
    let mut text = comment(&format!("{place}: [{}]", section.name)) + "\n";
    for note in &writer.notes {
        text += &(comment(note) + "\n");
    }
    match command {
        true => text += "[[server]]\n",
        false => text += "# it is left out\n",
    }
    for line in &writer.lines {
        text += &(if command { line.clone() } else { comment(line) } + "\n");
    }
    (name, text)
}

impl Program<'_> {
    /// The value of a key, with everything expanded; what can't be is said.
    pub fn take(&mut self, key: &str) -> Option<Item> {
        self.used.borrow_mut().insert(key.to_owned());
        let item = self.section.get(key)?.clone();
        self.expanded(item)
    }

    fn expanded(&mut self, item: Item) -> Option<Item> {
        match percent::expand(&item.value, &self.scope) {
            Ok(value) => Some(Item { value, ..item }),
            Err(problem) => {
                self.note(&item, &format!("{problem}; left out"));
                None
            }
        }
    }

    /// A key and its value, and what is to be said of it.
    pub fn note(&mut self, item: &Item, text: &str) {
        self.notes.push(format!("{}: {} = {}: {text}", item.place, item.key, item.value));
    }

    pub fn number(&mut self, key: &str) -> Option<(u32, Item)> {
        let item = self.take(key)?;
        match item.value.parse() {
            Ok(number) => Some((number, item)),
            Err(_) => {
                self.note(&item, "no number; left out");
                None
            }
        }
    }

    pub fn boolean(&mut self, key: &str) -> Option<(bool, Item)> {
        let item = self.take(key)?;
        match words::boolean(&item.value) {
            Some(is_true) => Some((is_true, item)),
            None => {
                self.note(&item, "neither true nor false; left out");
                None
            }
        }
    }

    fn set_scope(&mut self, program: &str, is_fcgi: bool) {
        let group = self.context.groups.first().map_or(program, String::as_str);
        let texts = [
            ("here", self.context.here.as_str()),
            ("host_node_name", &self.context.host),
            ("program_name", program),
            ("group_name", group),
        ];
        self.scope.texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        self.scope.numbers = vec![0];
        let first = self.number("numprocs_start").map_or(0, |(number, _)| i64::from(number));
        let count = self.number("numprocs");
        let mut number = count.as_ref().map_or(1, |(count, _)| (*count).clamp(1, 1_000));
        self.scope.texts.insert("numprocs".to_owned(), number.to_string());
        if let Some((count, item)) = &count {
            if *count != number {
                self.note(item, "there are 1 to 1000 instances here");
            }
            if is_fcgi && number > 1 {
                let text = "they share one socket there, and each instance has its own here: one \
                            server is left; let the program make its processes (php-fpm, \
                            PHP_FCGI_CHILDREN)";
                self.note(item, text);
                number = 1;
            }
        }
        self.scope.numbers = (first..first + i64::from(number)).collect();
        if number > 1 {
            self.lines.push(format!("instances = {number}"));
        }
        self.process_name(program, number);
    }

    /// What the processes were called, for those who look for them.
    fn process_name(&mut self, program: &str, count: u32) {
        self.used.borrow_mut().insert("process_name".to_owned());
        let Some(item) = self.section.get("process_name").cloned() else { return };
        if item.value == "%(program_name)s" {
            return;
        }
        let mut scope = Scope { texts: self.scope.texts.clone(), ..Scope::default() };
        let first = self.scope.numbers.first().copied().unwrap_or(0);
        scope.numbers = vec![first];
        let group = self.context.groups.first().map_or(program, String::as_str);
        if let Ok(old) = percent::expand(&item.value, &scope) {
            let new = written::name(program);
            let new = if count > 1 { format!("{new}@1") } else { new };
            self.note(&item, &format!("{group}:{old} is {new} here"));
        }
    }

    /// Whether there is one.
    fn command(&mut self, is_fcgi: bool) -> bool {
        let Some(item) = self.take("command") else {
            self.notes
                .push(format!("{}: it has no command that is understood", self.section.place));
            return false;
        };
        let Some(mut words) = shlex::split(&item.value).filter(|words| !words.is_empty()) else {
            self.note(&item, "a quote in it is not closed, or it is empty");
            return false;
        };
        let program = words.first().cloned().unwrap_or_default();
        if program.contains('/') && !program.starts_with(['/', written::OPEN]) {
            self.note(&item, "a relative path starts at the home here");
        }
        if item.value.contains("ENV_") || item.value.contains(written::OPEN) {
            self.note(&item, "a variable with blanks in it stays one word here");
        }
        if is_fcgi {
            let text = "a FastCGI program has its socket as descriptor 0; here sockets begin at 3, \
                        so a shell moves it and then becomes the program";
            self.notes.push(format!("{}: {text}", item.place));
            let shell = ["/bin/sh", "-c", "exec \"$0\" \"$@\" 0<&3 3<&-"].map(str::to_owned);
            words = shell.into_iter().chain(words).collect();
        }
        self.lines.push(format!("command = {}", array(&words)));
        true
    }

    fn tags(&mut self) {
        let tags: Vec<String> =
            self.context.groups.iter().map(|group| written::name(group)).collect();
        if !tags.is_empty() {
            self.lines.push(format!("tags = {}", array(&tags)));
        }
    }

    fn process(&mut self) {
        let own = self.take("directory");
        let common = self.context.directory.clone().and_then(|item| self.expanded(item));
        if let Some(item) = own.or(common) {
            self.lines.push(format!("cwd = {}", string(&item.value)));
        }
        if let Some(item) = self.take("user").or_else(|| self.context.user.clone()) {
            self.lines.push(format!("user = {}", string(&item.value)));
        }
        if let Some(item) = self.take("umask").or_else(|| self.context.umask.clone()) {
            let digits = format!("{:0>3}", item.value.trim());
            let is_octal = digits.len() <= 4 && digits.chars().all(|c| c.is_digit(8));
            match is_octal {
                true => self.lines.push(format!("umask = {}", written::plain(&digits))),
                false => self.note(&item, "no octal number; left out"),
            }
        }
    }

    fn environment(&mut self) {
        let common = self.context.environment.clone().and_then(|item| self.expanded(item));
        let own = self.take("environment");
        let mut all: Vec<(String, String)> = Vec::new();
        for item in [common, own].into_iter().flatten() {
            match words::pairs(&item.value) {
                Ok(pairs) => {
                    for (name, value) in pairs {
                        all.retain(|(known, _)| *known != name);
                        all.push((name, value));
                    }
                }
                Err(problem) => self.note(&item, &format!("{problem}; left out")),
            }
        }
        if !all.is_empty() {
            let pair = |(name, value): &(String, String)| {
                format!("{} = {}", written::key(name), string(value))
            };
            let pairs: Vec<String> = all.iter().map(pair).collect();
            self.lines.push(format!("env = {{ {} }}", pairs.join(", ")));
        }
    }

    fn starting(&mut self) {
        if let Some((false, _)) = self.boolean("autostart") {
            self.lines.push("autoStart = false".to_owned());
        }
        if let Some((seconds, _)) = self.number("startsecs").filter(|(seconds, _)| *seconds != 1) {
            self.lines.push(format!("settleTime = \"{seconds}s\""));
        }
        if let Some((_, item)) = self.number("priority") {
            match self.context.before.is_empty() {
                true => self.note(&item, "the order is made by dependsOn here; it needs nothing"),
                false => {
                    let text = "the order is made by dependsOn here, which waits until they are \
                                ready; if it needs them:";
                    self.note(&item, text);
                    let line = format!("# dependsOn = {}", array(&self.context.before));
                    self.lines.push(line);
                }
            }
        }
    }

    fn restart(&mut self) {
        let (retries, starts) = (self.number("startretries"), self.section.get("startsecs"));
        let settle_s: u64 = starts.and_then(|item| item.value.parse().ok()).unwrap_or(1);
        let when = match self.take("autorestart") {
            None => "on-failure",
            Some(item) if item.value.eq_ignore_ascii_case("unexpected") => "on-failure",
            Some(item) => match words::boolean(&item.value) {
                Some(true) => "always",
                Some(false) => "never",
                None => {
                    self.note(&item, "not true, false or unexpected; left out");
                    "on-failure"
                }
            },
        };
        let mut table = vec![format!("when = \"{when}\"")];
        if let Some(item) = self.take("exitcodes") {
            let codes = words::list(&item.value);
            let codes: Option<Vec<String>> =
                codes.iter().map(|code| Some(code.parse::<u8>().ok()?.to_string())).collect();
            match codes {
                Some(codes) => table.push(format!("successCodes = [{}]", codes.join(", "))),
                None => self.note(&item, "no exit codes from 0 to 255; left out"),
            }
        }
        if let Some((0, item)) = &retries
            && when != "never"
        {
            self.note(item, "here one try is needed to restart a server at all");
        }
        let tries = u64::from(retries.map_or(3, |(number, _)| number.clamp(1, 1_000)));
        // Its pauses grow by a second; all of them must be in one window.
        let window_s = (tries * (tries + 1) / 2 + (tries + 1) * settle_s).max(3_600);
        let window = match window_s {
            3_600 => "1h".to_owned(),
            seconds => format!("{seconds}s"),
        };
        let then = if settle_s == 0 { "slow" } else { "fail" };
        table.push(format!("tries = {tries}, window = \"{window}\", delayMax = \"{tries}s\""));
        table.push(format!("resetAfter = \"{}s\", then = \"{then}\"", settle_s.max(1)));
        self.lines.push(format!("restart = {{ {} }}", table.join(", ")));
    }

    fn stop(&mut self) {
        let mut table = Vec::new();
        if let Some(item) = self.take("stopsignal") {
            let upper = item.value.to_ascii_uppercase();
            let name = upper.strip_prefix("SIG").unwrap_or(&upper).to_owned();
            match crate::config::units::parse_signal(&format!("SIG{name}")) {
                Ok(_) => table.push(format!("signal = \"SIG{name}\"")),
                Err(_) => self.note(&item, "no such signal by that name; left out"),
            }
        }
        if let Some((seconds, _)) = self.number("stopwaitsecs") {
            table.push(format!("timeout = \"{seconds}s\""));
        }
        if !table.is_empty() {
            self.lines.push(format!("stop = {{ {} }}", table.join(", ")));
        }
        for key in ["stopasgroup", "killasgroup"] {
            if let Some((false, item)) = self.boolean(key) {
                self.note(&item, "a stop always goes to the whole process group here");
            }
        }
    }

    fn socket(&mut self) {
        let mut more = String::new();
        if let Some(item) = self.take("socket_mode") {
            more += &format!(", mode = {}", written::plain(&format!("{:0>4}", item.value)));
        }
        if let Some((backlog, _)) = self.number("socket_backlog") {
            more += &format!(", backlog = {backlog}");
        }
        if let Some(item) = self.take("socket_owner") {
            self.note(&item, "a socket belongs to its server's user here");
        }
        let Some(item) = self.take("socket") else { return };
        let listen = match item.value.split_once("://") {
            Some(("unix", path)) => Some(format!("unix:{path}")),
            Some(("tcp", address)) => tcp(address).map(|address| format!("tcp:{address}")),
            _ => None,
        };
        let Some(listen) = listen else {
            let text = "only numeric addresses and paths are taken here (tcp:ADDRESS:PORT, \
                        unix:PATH); write socket = [{ listen = ... }] by hand";
            return self.note(&item, text);
        };
        if listen.starts_with("tcp:") {
            more = more
                .split(", ")
                .filter(|one| !one.starts_with("mode"))
                .collect::<Vec<_>>()
                .join(", ");
        }
        self.lines
            .push(format!("socket = [{{ name = \"fcgi\", listen = {}{more} }}]", string(&listen)));
    }

    /// The numbers of its instances.
    fn vars(&mut self) {
        let vars = self.scope.vars.borrow();
        if !vars.is_empty() {
            let var =
                |(name, values): (&String, &Vec<String>)| format!("{name} = {}", array(values));
            let vars: Vec<String> = vars.iter().map(var).collect();
            self.lines.insert(2, format!("vars = {{ {} }}", vars.join(", ")));
        }
    }

    /// Everything that nobody asked for.
    fn rest(&mut self) {
        if let Some(item) = self.take("serverurl").filter(|item| item.value != "AUTO") {
            self.note(
                &item,
                "there are no event listeners here, and SUPERVISOR_SERVER_URL is not set",
            );
        }
        let used = self.used.borrow().clone();
        for item in self.section.items.iter().filter(|item| !used.contains(&item.key)) {
            self.notes.push(format!("{}: {} = {}: unknown key", item.place, item.key, item.value));
        }
    }
}

/// `host:port` with a numeric host; `*` and nothing are all addresses.
fn tcp(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bare = host.trim_matches(['[', ']']);
    match bare {
        "" | "*" => Some(format!("0.0.0.0:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        _ if bare.parse::<std::net::Ipv4Addr>().is_ok() => Some(format!("{bare}:{port}")),
        _ if bare.parse::<std::net::Ipv6Addr>().is_ok() => Some(format!("[{bare}]:{port}")),
        _ => None,
    }
}
