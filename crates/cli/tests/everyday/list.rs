//! `ls`: who is there.

use crate::support::{Scratch, noise, scratch, wait_until};
use serde_json::Value;

/// What `ls --json` says of a name.
fn entries(scratch: &Scratch, args: &[&str]) -> Vec<Value> {
    let outcome = scratch.run(&[&["ls", "--json"], args].concat(), b"").expect(0);
    assert_eq!(outcome.stderr, "");
    outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_role<'a>(entries: &'a [Value], role: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["role"] == role).collect()
}

#[test]
fn nobody_is_nobody() {
    let scratch = scratch();
    assert!(entries(&scratch, &[]).is_empty());
    assert!(scratch.run(&["ls"], b"").expect(0).text().starts_with("nobody is there"));
}

#[test]
fn a_route_is_listed_with_who_receives_and_how_far_each_is() {
    let scratch = scratch();
    let mut fast = scratch.start_open(&["sub", "news", "--lines"]);
    let mut stopped = scratch.start_open(&["sub", "news", "--lines"]);
    let mut sender = scratch.start_open(&["pub", "news", "--lines", "--wait-for", "2"]);
    sender.feed(b"one\n".to_vec(), false);
    assert_eq!((fast.read(4), stopped.read(4)), (b"one\n".to_vec(), b"one\n".to_vec()));
    stopped.signal("STOP");
    sender.feed(b"two\nthree\n".to_vec(), false);
    assert_eq!(fast.read(10), b"two\nthree\n");
    let entries = entries(&scratch, &["news"]);
    let [route] = of_role(&entries, "route-sender").try_into().unwrap();
    assert_eq!((&route["name"], &route["state"]), (&"news".into(), &"answers".into()));
    assert_eq!((&route["pid"], &route["sent_messages"]), (&sender.id().into(), &3.into()), "{route}");
    assert_eq!(route["path"], scratch.path().join("news.route").to_str().unwrap());
    let behind = |pid: u32| {
        let links = route["links"].as_array().unwrap();
        let link = links.iter().find(|link| link["pid"] == pid).unwrap();
        assert_eq!(link["kind"], "receiver");
        link["behind_bytes"].as_u64().unwrap()
    };
    assert_eq!(behind(fast.id()), 0, "{route}");
    assert!(behind(stopped.id()) >= 8, "{route}");
    let receivers = of_role(&entries, "route-receiver");
    let state = |pid: u32| receivers.iter().find(|entry| entry["pid"] == pid).map(|entry| &entry["state"]);
    assert_eq!(receivers.len(), 2);
    assert_eq!(state(fast.id()), Some(&"answers".into()));
    // Its socket answers only when it goes on; who bound it the kernel knows.
    assert_eq!(state(stopped.id()), Some(&"silent".into()));
    let text = scratch.run(&["ls"], b"").expect(0);
    for part in ["route sender", "route receiver", "does not answer", "- receiver"] {
        assert!(text.text().contains(part), "{part} in {}", text.text());
    }
    stopped.signal("CONT");
    sender.close_input();
    sender.wait().expect(0);
}

#[test]
fn channels_and_listeners_are_listed_too() {
    let scratch = scratch();
    let members = [0, 1].map(|_| scratch.start_open(&["sub", "floor", "--channel"]));
    let listener = scratch.start_open(&["listen", "box", "--keep"]);
    scratch.wait_for_name("box");
    let mut client = scratch.start_open(&["send", "box"]);
    client.feed(noise(10, 1), false);
    wait_until("all are there", || {
        let entries = entries(&scratch, &[]);
        let clients =
            of_role(&entries, "listener").first().map_or(0, |entry| entry["links"].as_array().unwrap().len());
        of_role(&entries, "channel-member").len() == 2 && clients == 1
    });
    let entries = entries(&scratch, &[]);
    let mut pids: Vec<u64> =
        of_role(&entries, "channel-member").iter().map(|entry| entry["pid"].as_u64().unwrap()).collect();
    let mut expected = members.each_ref().map(|member| u64::from(member.id()));
    pids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    let [server] = of_role(&entries, "listener").try_into().unwrap();
    assert_eq!((&server["pid"], &server["name"]), (&listener.id().into(), &"box".into()), "{server}");
    assert_eq!(server["links"][0]["pid"], client.id(), "{server}");
    assert_eq!(server["links"][0]["kind"], "client", "{server}");
}

#[test]
fn the_dead_are_listed_and_left_alone() {
    let scratch = scratch();
    let sender = scratch.start_open(&["pub", "news"]);
    wait_until("the sender is there", || scratch.names() == ["news.route"]);
    sender.signal("KILL");
    sender.wait();
    let entries = entries(&scratch, &[]);
    assert_eq!((entries.len(), &entries[0]["state"]), (1, &"dead".into()), "{entries:?}");
    assert_eq!(scratch.names(), ["news.route"]);
    assert!(scratch.run(&["ls"], b"").expect(0).text().contains("dead"));
}

#[test]
fn a_directory_that_others_may_write_is_a_matter_of_permission() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = scratch();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let outcome = scratch.run(&["ls", "--json"], b"").expect(5);
    assert_eq!(outcome.last_event()["code"], 5);
}
