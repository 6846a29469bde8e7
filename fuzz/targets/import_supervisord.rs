//! supervisord's files: any text is written anew as TOML, and no key of a program is lost silently.

use nodemanager::import::ini;
use nodemanager::import::supervisord::{Surroundings, import};

pub const WORDS: &[&str] = &[
    "[program:web]\n",
    "[program:a b]\n",
    "[group:g]\n",
    "[supervisord]\n",
    "[eventlistener:x]\n",
    "[fcgi-program:x]\n",
    "[include]\nfiles = conf.d/*.ini\n",
    "command=",
    "environment=A=\"1\",B='2'",
    "process_name=%(program_name)s_%(process_num)02d\nnumprocs=3\n",
    "stdout_logfile=%(here)s/x.log\n",
    "stopsignal=QUIT\n",
    "exitcodes=0,2\n",
    "autorestart=unexpected\n",
    "user=nobody\n",
    "umask=022\n",
    "%(ENV_X)s",
    "%%",
    "\"",
    "'",
    "\"\"\"",
    "\\",
    " ; comment",
    "\n  ",
    "programs=web,a b\n",
    "priority=",
    "999999999999",
    "50MB",
    "\u{e4}",
    "\0",
];

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let document = ini::parse(&text, "s.conf");
    let around = Surroundings {
        file: "s.conf".to_owned(),
        here: "/etc/supervisor".to_owned(),
        host: "host".to_owned(),
    };
    let written = import(&document, &around);
    let table: Result<toml::Table, _> = written.parse();
    assert!(table.is_ok(), "{:?} in what was written: {written}", table.err());
    for (place, line) in &document.strange {
        assert!(written.contains(&**place), "{place}: {line:?} is lost");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let one = "[supervisord]\nlogfile=/tmp/s.log ; main\n[program:web]\ncommand=/bin/web --port 80%(process_num)02d\n\
               process_name=%(program_name)s_%(process_num)02d\nnumprocs=2\nautorestart=unexpected\nexitcodes=0,2\n\
               environment=A=\"1,2\",B='x'\nstdout_logfile=/var/log/web.log\nstdout_logfile_maxbytes=50MB\nuser=www\n\
               stopsignal=QUIT\nstopwaitsecs=10\nstartsecs=5\nstartretries=3\npriority=10\numask=022\ndirectory=/srv\n";
    let two = "[program:a]\ncommand=sleep 5\nredirect_stderr=true\n[group:g]\nprograms=a\npriority=5\nrubbish\n\
               [eventlistener:l]\ncommand=x\nevents=TICK_5\n[unix_http_server]\nfile=/tmp/x.sock\n[include]\nfiles=a/*.ini\n";
    vec![one.into(), two.into()]
}
