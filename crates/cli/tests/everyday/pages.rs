//! Doctor, completions, manual pages, help.

use crate::support::{Scratch, scratch};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

const COMMANDS: [&str; 13] = [
    "demo",
    "bench",
    "listen",
    "send",
    "pub",
    "sub",
    "ls",
    "echo",
    "serve",
    "call",
    "doctor",
    "completions",
    "man",
];

fn doctor(scratch: &Scratch, code: i32) -> Value {
    serde_json::from_str(scratch.run(&["doctor", "--json"], b"").expect(code).text()).unwrap()
}

#[test]
fn the_doctor_says_what_is_here_and_what_is_used() {
    let scratch = scratch();
    drop(UnixListener::bind(scratch.path().join("dead.sock")).unwrap());
    let report = doctor(&scratch, 0);
    assert_eq!(report["ok"], true);
    assert_eq!(report["directory"]["used"], scratch.path().to_str().unwrap());
    assert!(report["directory"]["why"].as_str().unwrap().contains("RINGWAY_DIR"), "{report}");
    assert_eq!(report["directory"]["candidates"].as_array().unwrap().len(), 4);
    assert_eq!(report["directory"]["stale"], serde_json::json!(["dead.sock"]));
    assert_eq!(report["self_test"]["ok"], true, "{report}");
    assert!(report["self_test"]["round_trip_us"].as_f64().unwrap() > 0.0);
    assert!(!report["unchecked"].as_array().unwrap().is_empty());
    for finding in report["findings"].as_array().unwrap() {
        let is_missing = finding["state"] == "missing";
        assert!(!is_missing || finding["instead"].is_string() || finding["fix"].is_string(), "{finding}");
    }
    let names: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|finding| &finding["name"]).collect();
    for name in [
        "process descriptors",
        "open descriptors",
        "overcommit",
        "processors",
        "locked memory",
        "workers",
        "memory nodes",
    ] {
        assert!(names.contains(&&Value::from(name)), "{name} in {names:?}");
    }
    assert!(scratch.names().is_empty(), "the self-test leaves nothing, and takes dead names along");
}

#[test]
fn the_doctor_finds_a_directory_that_must_not_be_used() {
    let scratch = scratch();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
    let report = doctor(&scratch, 1);
    assert_eq!((&report["ok"], &report["self_test"]["ok"]), (&false.into(), &false.into()));
    let text = report.to_string();
    assert!(text.contains("chmod 0700"), "{text}");
    let text = scratch.run(&["doctor"], b"").expect(1);
    assert!(text.text().contains("FAILED") && text.stderr.is_empty());
}

#[test]
fn the_doctor_speaks_to_people_too() {
    let scratch = scratch();
    let outcome = scratch.run(&["doctor"], b"").expect(0);
    for part in ["kernel", "limits", "not checked", "everything required is here"] {
        assert!(outcome.text().contains(part), "{}", outcome.text());
    }
}

#[test]
fn completions_know_every_command() {
    let scratch = scratch();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = scratch.run(&["completions", shell], b"").expect(0);
        for command in COMMANDS {
            assert!(outcome.text().contains(command), "{command} for {shell}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let scratch = scratch();
    let dir = scratch.path().join("man");
    scratch.run(&["man", "--out", dir.to_str().unwrap()], b"").expect(0);
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> = COMMANDS.iter().map(|command| format!("ringway-{command}.1")).collect();
    expected.push("ringway.1".into());
    expected.sort();
    assert_eq!(names, expected);
    for name in names {
        let text = fs::read_to_string(dir.join(&name)).unwrap();
        assert!(text.contains(".TH") && text.contains("SYNOPSIS") && text.contains("Exit codes"), "{name}");
    }
    let all = scratch.run(&["man"], b"").expect(0);
    assert_eq!(all.text().matches(".TH ").count(), expected.len());
}

#[test]
fn every_help_tells_the_exit_codes() {
    let scratch = scratch();
    for command in COMMANDS {
        assert!(scratch.run(&[command, "--help"], b"").expect(0).text().contains("Exit codes"), "{command}");
    }
}

#[test]
fn whoever_reads_only_the_beginning_is_no_error() {
    let scratch = scratch();
    for args in [&["doctor"][..], &["doctor", "--json"], &["completions", "bash"], &["man"], &["--help"]] {
        let mut running = scratch.start_open(args);
        running.close_output();
        assert_eq!(running.wait().expect(0).stderr, "", "{args:?}");
    }
}
