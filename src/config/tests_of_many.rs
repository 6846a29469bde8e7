//! What the configuration promises of many servers: included files, instances, variables, tags and
//! dependencies.

use super::tests::{FILE, parsed};
use super::*;
use std::path::Path;

/// A server `web` with these lines.
fn web(lines: &str) -> String {
    format!("[[server]]\nname = \"web\"\ncommand = \"web\"\n{lines}\n")
}

fn server(name: &str, lines: &str) -> String {
    web(lines).replacen("\"web\"", &format!("{name:?}"), 1)
}

/// One file, with an environment.
fn input(text: &str) -> Input {
    let variables = [("PLACE", "a b"), ("EMPTY", ""), ("NESTED", "${PLACE}"), ("port", "1")];
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Input { environment: environment.into(), ..Input::new(text, Path::new(FILE), Path::new("/nm")) }
}

fn servers(text: &str) -> Vec<ServerConfig> {
    parse_input(&input(text)).unwrap_or_else(|errors| panic!("{text}\n{errors}")).servers
}

fn errors(input: &Input) -> Vec<String> {
    let errors = parse_input(input).expect_err(&input.main.text);
    errors.0.iter().map(ToString::to_string).collect()
}

/// Asserts that the text has exactly this one error, which begins in this line.
fn assert_refused(text: &str, line: u32, wanted: &str) {
    let errors = errors(&input(text));
    let begin = format!("{FILE}:{line}: ");
    assert_eq!(errors.len(), 1, "{text}\n{errors:?}");
    assert!(errors[0].starts_with(&begin) && errors[0].contains(wanted), "{text}\n{errors:?}");
}

fn names(servers: &[ServerConfig]) -> Vec<&str> {
    servers.iter().map(|server| server.name.as_str()).collect()
}

fn with_files(main: &str, files: &[(&str, &str)]) -> Input {
    let source =
        |(file, text): &(&str, &str)| Source { file: file.into(), text: (*text).to_owned() };
    Input { included: files.iter().map(source).collect(), ..input(main) }
}

// ---- instances and variables

#[test]
fn instances_are_numbered_servers_with_their_own_values() {
    let text = web("instances = 2\nvars = { port = [8081, 8082], dir = \"d\" }\n\
                    cwd = \"${dir}/${instance}\"\nenv = { PORT = \"${port}\", ME = \"${name}\" }\n\
                    stop = { timeout = \"${instance}s\" }");
    let servers = servers(&text);
    assert_eq!(names(&servers), ["web@1", "web@2"]);
    let second = &servers[1];
    assert_eq!((second.program.name.as_str(), second.instance), ("web", Some(2)));
    assert_eq!(**second.cwd, *Path::new("/nm/d/2"));
    assert_eq!(second.stop.timeout_ms, 2_000);
    let env: Vec<_> = second.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["ME=web@2", "PORT=8082"]);
    assert_eq!(servers[0].env["PORT"], "8081");
}

#[test]
fn a_server_without_instances_has_its_plain_name_and_no_number() {
    let one = servers(&web("vars.port = [7]\nenv.PORT = \"${port}\"")).remove(0);
    assert_eq!((one.name.as_str(), one.program.name.as_str()), ("web", "web"));
    assert_eq!(one.instance, None);
    assert!(!one.env.contains_key("NM_INSTANCE") && one.env["PORT"] == "7");
    assert_refused(&web("env.A = \"${instance}\""), 4, "${instance} needs the key instances");
}

#[test]
fn a_list_of_variables_that_does_not_fit_is_told_both_numbers() {
    let wanted = "vars.port of [[server]] web has 3 values for 2 instances";
    assert_refused(&web("instances = 2\nvars.port = [1, 2, 3]"), 5, wanted);
    assert_refused(&web("vars.port = [1, 2]"), 4, "has 2 values for 1 instance:");
    assert_refused(&web("vars.port = []"), 4, "has 0 values for 1 instance:");
}

#[test]
fn a_variable_is_a_string_or_a_number_and_has_a_name_of_its_own() {
    assert_refused(&web("vars.a = 1.5"), 4, "a string or a number, or a list");
    assert_refused(&web("vars.a = [true]"), 4, "not true");
    assert_refused(&web("vars.a-b = 1"), 4, "vars.a-b of [[server]] web is no name");
    assert_refused(&web("vars.home = 1"), 4, "${home} is given by the node manager");
    assert_refused(&web("vars.a = \"${b}\"\nvars.b = 1"), 4, "${b} is not set");
    assert_refused(&web("[server.vars]\ncwd = true"), 5, "put it above [server.vars]");
}

#[test]
fn each_error_of_a_server_with_many_instances_comes_once() {
    assert_refused(&web("instances = 100\ncomand = 1"), 5, "unknown key \"comand\"");
    assert_refused(&web("instances = 9\ncwd = \"${NONE}\""), 5, "${NONE} is not set");
    let text = web("instances = 2\nvars.time = [\"1s\", \"1x\"]\nsettleTime = \"${time}\"");
    assert_refused(&text, 6, "\"1x\" is not a duration");
}

#[test]
fn the_number_of_servers_and_the_size_of_their_texts_have_a_limit() {
    let thousands =
        |n: usize| (0..n).map(|n| server(&format!("s{n}"), "instances = 1000")).collect::<String>();
    assert_eq!(servers(&thousands(10)).len(), 10_000);
    assert_refused(&thousands(11), 41, "[[server]] s10 makes more than 10000 servers");
    let long = format!("instances = 1000\nenv.A = \"{}\"", "x".repeat(20_000));
    assert_refused(&web(&long), 1, "[[server]] web is too large: all servers together");
    let many = format!("instances = 1000\npassEnv = [{}]", "\"a\",".repeat(2_000));
    assert_refused(&web(&many), 1, "[[server]] web is too large");
    let big = format!("vars.a = \"{}\"\nenv.A = \"{}\"", "x".repeat(70_000), "${a}".repeat(2));
    assert_refused(&web(&big), 5, "becomes longer than 131072 bytes");
}

// ---- ${...}

#[test]
fn a_value_has_its_variables_replaced_and_other_dollars_stay() {
    let expanded = |text: &str| servers(&web(&format!("env.A = {text:?}")))[0].env["A"].clone();
    assert_eq!(expanded("${PLACE}"), "a b");
    assert_eq!(expanded("<${EMPTY}|${EMPTY:-e}|${NO:-d}|${NO:-}>"), "<|e|d|>");
    assert_eq!(expanded("$$ $${PLACE} $PLACE $5 $"), "$ ${PLACE} $PLACE $5 $");
    assert_eq!(expanded("${NESTED}"), "${PLACE}", "what was put in is not expanded again");
    assert_eq!(expanded("${NO:-a:-b}"), "a:-b");
    assert_eq!(expanded("${program} ${name} ${node}"), "web web nodemanager-1");
    assert_eq!(
        expanded("${home} ${runDir} ${stateDir} ${logDir}"),
        "/nm /nm/run /nm/state /nm/logs"
    );
}

#[test]
fn vars_come_before_the_environment() {
    assert_eq!(servers(&web("vars.port = 8\nenv.A = \"${port}\""))[0].env["A"], "8");
    assert_eq!(servers(&web("env.A = \"${port}\""))[0].env["A"], "1");
}

#[test]
fn what_cannot_be_replaced_is_refused_with_its_line_and_what_to_write() {
    let not_set = "${X} is not set; write ${X:-default}, or $$ for a dollar";
    assert_refused(
        &web("env = { A = \"${X}\" }"),
        4,
        &format!("env.A of [[server]] web: {not_set}"),
    );
    assert_refused(&web("passEnv = [\n\"A\",\n\"${X}\"]"), 6, "passEnv of [[server]] web: ${X}");
    assert_refused(&web("env.A = \"${X\""), 4, "is not closed by \"}\"");
    for text in ["${}", "${a b}", "${1}", "${X%.*}", "${X:?no}", "${a-b}", "${:-x}"] {
        assert_refused(&web(&format!("env.A = {text:?}")), 4, "write $$ for a dollar");
    }
    assert!(parsed("[nodeManager]\nlogDir = \"${X}\"").is_ok(), "only servers have variables");
}

#[test]
fn a_command_in_one_string_is_split_before_it_is_expanded() {
    let command = |text: &str| {
        let text = format!("[[server]]\nname = \"a\"\ncommand = {text:?}\n");
        servers(&text).remove(0).command.clone()
    };
    assert_eq!(
        *command("x ${PLACE} '${PLACE}' \"${NO:-c d}\" $$"),
        ["x", "a b", "a b", "c d", "$"]
    );
    assert_eq!(*command("${home}/x -y"), ["/nm/x", "-y"]);
    let text = "[[server]]\nname = \"a\"\ncommand = \"x ${X:-a b}\"\n";
    assert_refused(text, 3, "command of [[server]] a: a \"${\" is not closed");
    let env = servers(&web("env = { command = \"a  b\" }")).remove(0).env.clone();
    assert_eq!(env["command"], "a  b", "a variable of that name is no command");
}

#[test]
fn a_command_to_a_running_pair_does_not_need_the_variables_of_the_pair() {
    let text = web("instances = 2\nvars.a = \"${X}\"\nsettleTime = \"${X}\"\ncwd = \"${X}\"\n\
                    env.A = \"${a}\"")
    .replace("= \"web\"\ni", "= \"${X}/web -a ${a}\"\ni");
    let input = Input { unset: Unset::Leave, ..input(&text) };
    let servers = parse_input(&input).unwrap().servers;
    assert_eq!(names(&servers), ["web@1", "web@2"]);
    assert_eq!((servers[0].settle_ms, servers[0].cwd.as_path()), (1_000, Path::new("/nm")));
    assert_eq!(*servers[0].command, ["/nm/${X}/web", "-a", "${a}"]);
}

// ---- included files

#[test]
fn servers_come_from_all_files_in_their_order_and_know_their_file() {
    let input = with_files(
        &server("a", ""),
        &[("/nm/conf.d/1.toml", &server("b", "")), ("/nm/conf.d/2.toml", "")],
    );
    let config = parse_input(&input).unwrap();
    assert_eq!(names(&config.servers), ["a", "b"]);
    assert_eq!(**config.servers[0].file, *Path::new(FILE));
    assert_eq!(**config.servers[1].file, *Path::new("/nm/conf.d/1.toml"));
    assert_eq!(config.included.len(), 2);
    let only = with_files("[nodeManager]\nstandbyPort = 1", &[("b", &server("b", ""))]);
    assert_eq!(parse_input(&only).unwrap().warnings, [""; 0]);
}

#[test]
fn every_error_and_warning_names_its_own_file_and_the_files_come_in_their_order() {
    let other = format!("\n{}", server("b", "comand = 1\n[server.env]\ncwd = \"x\""));
    let input = with_files(&web("stop = 1"), &[("b.toml", &other), ("c.toml", "name = 1")]);
    let shown = errors(&input);
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown[0].starts_with("conf/nodemanager.toml:4: stop of"), "{shown:?}");
    assert!(shown[1].starts_with("b.toml:5: unknown key \"comand\""), "{shown:?}");
    assert!(shown[2].starts_with("c.toml:1: unknown key \"name\""), "{shown:?}");
    let input = with_files("", &[("b.toml", &other.replace("comand = 1\n", ""))]);
    let warnings = parse_input(&input).unwrap().warnings;
    assert!(warnings[1].starts_with("b.toml:6: [[server]] b has a variable"), "{warnings:?}");
}

#[test]
fn a_server_that_two_files_define_is_refused_with_both_places() {
    let shown = errors(&with_files(&web(""), &[("b.toml", &format!("\n{}", web("")))]));
    let wanted = "b.toml:2: [[server]] web is defined twice: here and in conf/nodemanager.toml:1";
    assert_eq!(shown, [wanted]);
    assert_refused(&(web("instances = 2") + &web("")), 5, "defined twice: here and in line 1");
}

#[test]
fn an_included_file_holds_servers_only() {
    let shown = errors(&with_files("", &[("b.toml", "\n[nodeManager]\nname = \"x\"")]));
    assert_eq!(shown, ["b.toml:2: [nodeManager] belongs into conf/nodemanager.toml alone"]);
}

#[test]
fn a_broken_file_hides_no_error_of_another_one_and_makes_no_name_unknown() {
    let main = web("dependsOn = [\"other\"]\nstop = 1");
    let shown = errors(&with_files(&main, &[("b.toml", "[[server]\n")]));
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].contains("stop of") && shown[1].starts_with("b.toml:1: not valid TOML"));
}

#[test]
fn what_is_included_is_known_with_its_lines_before_all_is_parsed() {
    let text = "[nodeManager]\ninclude = [\n  \"a.toml\",\n  \"\", 1, \"**\",\n  \"b/*\",\n]\n";
    let found = includes(&input(text).main);
    let found: Vec<_> =
        found.iter().map(|one| (one.pattern.as_str(), one.line, one.is_pattern())).collect();
    assert_eq!(found, [("a.toml", 3, false), ("b/*", 5, true)]);
    assert!(includes(&input("[nodeManager]\ninclude = 1").main).is_empty());
    assert!(includes(&input("[[").main).is_empty());
}

// ---- dependencies

fn needs(servers: &[ServerConfig], name: &str) -> Vec<(String, OnFailure)> {
    let server = servers.iter().find(|server| server.name == name).expect(name);
    server.depends_on.iter().map(|one| (one.name.to_string(), one.on_failure)).collect()
}

#[test]
fn a_dependency_names_a_server_an_instance_a_program_or_a_tag() {
    let text = server("db", "instances = 2\ntags = [\"data\"]")
        + &server("redis", "tags = [\"data\"]")
        + &server("a", "dependsOn = [\"db@2\"]")
        + &server("b", "dependsOn = [\"db\"]")
        + &server("c", "dependsOn = [\"tag:data\", { name = \"redis\", onFailure = \"stop\" }]")
        + &server("d", "instances = 2\ndependsOn = [\"db@${instance}\"]");
    let servers = servers(&text);
    let keep = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), OnFailure::Keep)).collect::<Vec<_>>()
    };
    assert_eq!(needs(&servers, "a"), keep(&["db@2"]));
    assert_eq!(needs(&servers, "b"), keep(&["db@1", "db@2"]));
    let last = ("redis".to_owned(), OnFailure::Stop);
    assert_eq!(needs(&servers, "c"), [keep(&["db@1", "db@2"]), vec![last]].concat());
    assert_eq!(needs(&servers, "d@1"), keep(&["db@1"]));
    assert_eq!(needs(&servers, "d@2"), keep(&["db@2"]));
}

#[test]
fn an_unknown_dependency_and_oneself_are_refused() {
    let of = |name: &str| server("redis", "") + &web(&format!("dependsOn = [{name:?}]"));
    let wanted =
        "dependsOn of [[server]] web names \"rediss\", which is no server; did you mean redis?";
    assert_refused(&of("rediss"), 8, wanted);
    let unknown_key = server("db", "") + &web("dependsOn = [{ name = \"db\", on = 1 }]");
    assert_refused(&unknown_key, 8, "unknown key \"on\" in dependsOn of [[server]] web");
    assert_refused(&of("tag:none"), 8, "names \"tag:none\", which is no server");
    assert_refused(&of("web"), 8, "names \"web\": it can't wait for itself");
    let tagged = web("tags = [\"t\"]\ndependsOn = [\"tag:t\"]");
    assert_refused(&tagged, 5, "names \"tag:t\", and is one of those");
    let instances = web("instances = 2\ndependsOn = [\"web@1\"]");
    assert_refused(&instances, 5, "names \"web@1\"");
}

#[test]
fn a_circle_is_shown_whole_with_its_file_and_line() {
    let text = server("c", "dependsOn = [\"a\"]")
        + &server("a", "dependsOn = [\"b\"]")
        + &server("b", "dependsOn = [\"c\"]");
    let wanted = "dependsOn of [[server]] c goes in a circle: c -> a -> b -> c";
    assert_refused(&text, 4, wanted);
    let other = ("b.toml", server("db", "dependsOn = [\"web@2\"]"));
    let main = web("instances = 2\ndependsOn = [\"db\"]");
    let shown = errors(&with_files(&main, &[(other.0, &other.1)]));
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].starts_with("conf/nodemanager.toml:5: "), "{shown:?}");
    assert!(shown[0].contains(": web@2 -> db -> web@2;"), "{shown:?}");
}

#[test]
fn dependencies_have_a_limit() {
    let text = server("a", "instances = 1000") + &web("instances = 101\ndependsOn = [\"a\"]");
    assert_refused(&text, 9, "makes more than 100000 dependencies");
    let long = web(&format!("dependsOn = [{}]", "\"a\",".repeat(1_001)));
    assert_refused(&long, 4, "has more than 1000 names: use a tag");
}

// ---- what it comes to

/// A file with keys of every kind.
const MIXED: &str = r#"[nodeManager]
serverRestartTryCount = 9
serverRetryRestart = false
[[server]]
name = "web"
command = "x '${PLACE}' \"\u007f\""
env = { "a b" = "q\"\\\n", MODE = "live" }
dependsOn = [{ name = "db" }]
restart.delay = "2s"
[[server]]
name = "db"
command = ["y"]
"#;

#[test]
fn what_effective_shows_is_the_same_configuration() {
    let shown = effective(&input(MIXED)).unwrap().to_toml();
    let (again, config) = (servers(&shown), servers(MIXED));
    let without_line = |server: &ServerConfig| {
        let mut server = server.clone();
        server.line = 0;
        server
    };
    assert_eq!(
        again.iter().map(without_line).collect::<Vec<_>>(),
        config.iter().map(without_line).collect::<Vec<_>>()
    );
    let node = parsed(&shown).unwrap().node;
    assert_eq!(node, NodeConfig { standby_port_line: None, ..parsed("").unwrap().node });
}

#[test]
fn effective_says_where_each_value_is_from() {
    let text = web("instances = 2\nvars.port = [1, 2]\nenv.P = \"${port}\"");
    let input = with_files(MIXED.split("[[").next().unwrap(), &[("b.toml", &text)]);
    let shown = effective(&input).unwrap();
    let toml = shown.to_toml();
    for line in [
        "# included b.toml",
        "serverRestartTryCount = 9  # conf/nodemanager.toml:2",
        "runDir = \"run\"  # default",
        "[[server]]  # b.toml:1",
        "name = \"web@2\"  # b.toml:2",
        "vars.port = \"2\"  # b.toml:5",
        "env.P = \"2\"  # b.toml:6",
        "restart.tries = 9  # conf/nodemanager.toml:2, serverRestartTryCount",
        "restart.then = \"fail\"  # conf/nodemanager.toml:3, serverRetryRestart",
        "restart.delay = \"1s\"  # default",
    ] {
        assert!(toml.lines().any(|found| found == line), "{line}\n{toml}");
    }
    let json = shown.to_json();
    assert_eq!(json["servers"][1]["name"], "web@2");
    let tries = &json["servers"][1]["values"]["restart.tries"];
    assert_eq!((&tries["value"], tries["from"].as_str().unwrap().len() > 9), (&9.into(), true));
    assert_eq!(json["nodeManager"]["values"]["logMaxFiles"]["from"], "default");
    assert!(
        effective(&super::Input { main: Source { file: FILE.into(), text: "a".into() }, ..input })
            .is_err()
    );
}

#[test]
fn a_group_that_cannot_connect_is_warned_of() {
    let warnings =
        |text: &str| parsed(&format!("[nodeManager]\n{text}")).unwrap().warnings.concat();
    assert!(
        warnings("controlGroup = \"x\"")
            .contains("2: controlGroup has no effect with controlMode \"0600\"")
    );
    assert!(!warnings("controlGroup = \"x\"\ncontrolMode = \"0660\"").contains("no effect"));
    assert!(parsed("[nodeManager]\ncontrolGroup = \"\"").unwrap().node.control_group.is_none());
}
