//! What becomes of each kind of file of supervisord.

use super::{has, imported, table};

#[test]
fn a_django_project_with_celery() {
    let text = imported("django");
    has(
        table(&text, "shop-gunicorn"),
        &[
            "command = [\"/srv/shop/venv/bin/gunicorn\", \"shop.wsgi:application\", \"--bind\"",
            "cwd = \"/srv/shop\"",
            "SECRET_KEY = \"s3cret;not a comment%\"",
            "when = \"always\", tries = 3",
            "stop = { signal = \"SIGQUIT\" }",
            "output = { maxSize = \"20MiB\", maxFiles = 5 }",
            "# django.conf:28: stdout_logfile = /var/log/shop/gunicorn.log: the log is <logDir>/NAME.out",
        ],
    );
    has(
        table(&text, "shop-celery"),
        &[
            "settleTime = \"10s\"",
            "# dependsOn = [\"shop-gunicorn\"]",
            "stop = { timeout = \"600s\" }",
            "output = { stderr = \"separate\" }",
        ],
    );
    has(&text, &["logMaxSize = \"50MiB\"", "logMaxFiles = 10", "django.conf:3: file = /var/run"]);
    has(&text, &["django.conf:13: minfds", ":15: [rpcinterface:supervisor]", "[supervisorctl]"]);
}

#[test]
fn queue_workers_with_numbers() {
    let text = imported("laravel");
    has(
        table(&text, "laravel-worker"),
        &[
            "instances = 8",
            "vars = { processNum = [\"0\", \"1\", \"2\"",
            "\"--name=w${processNum}\"",
            "stop = { timeout = \"3600s\" }",
            "laravel-worker:laravel-worker_00 is laravel-worker@1 here",
        ],
    );
    assert!(!table(&text, "laravel-worker").contains("separate"), "{text}");
    has(table(&text, "laravel-schedule"), &["\"while [ true ]; do (php ", "sleep 60; done\"]"]);
}

#[test]
fn a_container_that_stays_in_the_foreground() {
    let text = imported("docker");
    has(table(&text, "php-fpm"), &["to = \"inherit\", stderr = \"separate\"", "when = \"never\""]);
    has(table(&text, "nginx"), &["\"daemon off;\"", "to = \"inherit\", stderr = \"merge\""]);
    has(table(&text, "cron"), &["to = \"null\", stderr = \"null\""]);
    has(&text, &["docker.conf:2: nodaemon = true: `run` stays in the foreground"]);
}

#[test]
fn groups_sockets_listeners_and_included_files() {
    let text = imported("groups");
    has(&text, &["name = \"media\"", "nodemanager restart tag:media", "no program missing"]);
    has(
        table(&text, "encoder"),
        &[
            "instances = 3",
            "processNum02 = [\"01\", \"02\", \"03\"]",
            "TZ = \"UTC\", LANG = \"ko_KR.UTF-8\", SLOT = \"${processNum02}\", GROUP = \"media\"",
            "tags = [\"media\"]",
            "successCodes = [0, 2]",
            "umask = \"027\"",
        ],
    );
    has(table(&text, "uploader"), &["to = \"syslog\"", "# dependsOn = [\"encoder\"]"]);
    has(
        table(&text, "report-job"),
        &["autoStart = false", "umask = \"022\"", "settleTime = \"0s\""],
    );
    has(
        table(&text, "thumbs"),
        &["listen = \"tcp:127.0.0.1:9002\"", "0<&3 3<&-", "one server is left"],
    );
    has(
        table(&text, "legacy"),
        &["listen = \"unix:/run/legacy.sock\", mode = \"0700\", backlog = 128"],
    );
    has(&text, &["[eventlistener:crashmail]: there are no event listeners; `hooks`"]);
    has(table(&text, "cache"), &["supervisor.d/cache.ini:1: [program:cache]", "/cache.sock\"]"]);
    assert!(!text.contains("hunter2"), "a password that nobody needs any more\n{text}");
}

#[test]
fn every_oddity_of_the_dialect() {
    let text = imported("odd");
    has(
        table(&text, "odd"),
        &[
            "\"echo 'a b' \\\"c\\\\d\\\" ${HOME} 100% $$$ $${NOT_OURS} $x no#comment\", \"tail\"]",
            "A = \"b=c,d\", B = \"single \\\"double\\\" inside\", C = \"plain/word:1.2+3-4\"",
            "EMPTY = \"\", PATH = \"/opt/bin:${PATH}\", DOLLAR = \"$$\"",
            "stop = { signal = \"SIGUSR2\" }",
            "maxSize = \"1KiB\", maxFiles = 1",
            "odd.conf:22: colour = blue: unknown key",
            "odd.conf:24: startsecs = soon: no number",
            "odd.conf:27: autorestart = sometimes",
        ],
    );
    has(&text, &["odd.conf:23: this line is no key: not understood"]);
    has(table(&text, "server-all"), &["command = [\"sleep\", \"1000\"]"]);
    has(&text, &["# name = \"broken\"", "%(nobody)s is none of supervisord's"]);
}
