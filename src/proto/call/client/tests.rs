//! The asking side in virtual time, against frames that a server could send.

use super::*;
use crate::proto::call::Request;

type Session = ClientSession<char>;

fn session() -> Session {
    ClientSession::new(false, 1000, None)
}

fn bytes(session: &Session, frame: &Frame<'_>) -> Vec<u8> {
    let (head, body) = frame.head();
    let mut out = vec![0; crate::proto::frame::HEADER_BYTES + head.prelude().len() + body.len()];
    session.codec().write(&mut out, &head.header, head.prelude(), body);
    out
}

#[track_caller]
fn hears(session: &mut Session, frame: &Frame<'_>, expected: Result<Heard<'_, char>, FrameError>) {
    let message = bytes(session, frame);
    assert_eq!(session.hear(&message), expected);
}

fn response(id: u64) -> Frame<'static> {
    Frame::Response { id, last: true, body: b"yes" }
}

fn part(id: u64, body: &[u8]) -> Frame<'_> {
    Frame::Response { id, last: false, body }
}

fn answer(call: char) -> Result<Heard<'static, char>, FrameError> {
    Ok(Heard::Answer { call, body: b"yes" })
}

fn turn(id: u64) -> Result<Heard<'static, char>, FrameError> {
    Err(FrameError::Turn { id })
}

#[test]
fn ids_count_from_one_and_answers_find_their_calls_in_any_order() {
    let mut session = session();
    let ids: Vec<u64> = ('a'..='e').map(|call| session.begin(None, call)).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    for (id, call) in [(3, 'c'), (1, 'a'), (5, 'e'), (4, 'd'), (2, 'b')] {
        hears(&mut session, &response(id), answer(call));
    }
    assert_eq!(session.live, 0);
}

#[test]
fn a_long_call_is_passed_over_and_no_id_is_used_twice() {
    let mut session = session();
    assert_eq!(session.begin(None, 'l'), 1);
    let mut last = 1;
    for _ in 0..10_000 {
        let id = session.begin(None, 's');
        assert!(id > last);
        last = id;
        hears(&mut session, &response(id), answer('s'));
    }
    assert_eq!(session.slots.len(), 64, "no memory was taken");
    assert!(last > 10_001, "its slot was passed over");
    hears(&mut session, &response(1), answer('l'));
}

#[test]
fn the_limit_is_guessed_until_told_and_never_beyond_our_own() {
    let mut session = session();
    let settings = |calls_max| Frame::Settings(Settings { without_checksum: false, calls_max });
    for _ in 0..CALLS_MAX_UNTOLD {
        session.begin(None, 'a');
    }
    assert!(!session.may_begin());
    hears(&mut session, &settings(5000), Ok(Heard::Limit));
    assert!(session.may_begin());
    for _ in CALLS_MAX_UNTOLD..1000 {
        session.begin(None, 'b');
    }
    assert!(!session.may_begin());
    for id in 1..=1000 {
        let call = if id <= CALLS_MAX_UNTOLD.into() { 'a' } else { 'b' };
        hears(&mut session, &response(id), answer(call));
    }
    hears(&mut session, &settings(5), turn(0));
}

#[test]
fn a_server_that_accepts_nothing_gets_one_call_at_a_time() {
    let mut session = session();
    let settings = Frame::Settings(Settings { without_checksum: false, calls_max: 0 });
    hears(&mut session, &settings, Ok(Heard::Limit));
    let id = session.begin(None, 'a');
    assert!(!session.may_begin());
    hears(&mut session, &response(id), answer('a'));
    assert!(session.may_begin());
}

#[test]
fn checksums_stop_when_both_sides_want_that() {
    for (ours, theirs) in [(true, true), (true, false), (false, true)] {
        let mut session = ClientSession::<char>::new(ours, 8, None);
        assert_eq!(session.settings(), Frame::Settings(Settings { without_checksum: ours, calls_max: 0 }));
        let settings = Frame::Settings(Settings { without_checksum: theirs, calls_max: 8 });
        hears(&mut session, &settings, Ok(Heard::Limit));
        assert_eq!(session.codec().checksum, !(ours && theirs));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_a_violation() {
    let mut session = session();
    let id = session.begin(None, 'a');
    for wrong in [0, id + 1, u64::MAX] {
        hears(&mut session, &response(wrong), turn(wrong));
    }
    hears(&mut session, &response(id), answer('a'));
    hears(&mut session, &response(id), turn(id));
}

#[test]
fn late_answers_are_counted_and_let_pass_once() {
    let mut session = session();
    let id = session.begin(None, 'a');
    assert!(session.give_up(id));
    assert!(!session.give_up(id));
    hears(&mut session, &response(id), Ok(Heard::Nothing));
    assert_eq!(session.late(), 1);
    hears(&mut session, &response(id), turn(id));
}

#[test]
fn late_answers_are_let_pass_when_their_slot_is_used_again() {
    let mut session = session();
    let given_up: Vec<u64> = (0..100)
        .map(|_| {
            let id = session.begin(None, 'a');
            session.give_up(id);
            id
        })
        .collect();
    let id = session.begin(None, 'b');
    for late in given_up {
        let failed = Frame::Failed { id: late, code: 1, text: b"cancelled" };
        hears(&mut session, &failed, Ok(Heard::Nothing));
    }
    assert_eq!((session.late(), session.forgotten), (100, 0));
    hears(&mut session, &response(3), turn(3));
    hears(&mut session, &response(id), answer('b'));
}

#[test]
fn a_call_that_was_not_sent_leaves_no_trace() {
    let mut session = session();
    let id = session.begin(None, 'a');
    session.withdraw(id);
    assert_eq!(session.live, 0);
    hears(&mut session, &response(id), turn(id));
}

#[test]
fn a_stream_gets_credit_in_halves_of_its_window() {
    let mut session = session();
    let id = session.begin(Some(1000), 'a');
    let body = [7; 300];
    for _ in 0..3 {
        hears(&mut session, &part(id, &body), Ok(Heard::Part { call: 'a', body: &body }));
    }
    assert_eq!(session.took(id, 300), None);
    assert_eq!(session.took(id, 300), Some(Frame::Credit { id, bytes: 600 }));
    assert_eq!(session.took(id, 300), None);
    hears(&mut session, &response(id), turn(id));
    let end = Frame::Response { id, last: true, body: b"" };
    hears(&mut session, &end, Ok(Heard::Answer { call: 'a', body: b"" }));
    assert_eq!(session.took(id, 300), None, "nobody needs credit for a stream that has ended");
}

#[test]
fn a_window_may_be_overdrawn_by_one_part_only() {
    let mut session = session();
    let id = session.begin(Some(100), 'a');
    let long = [0; 5000];
    hears(&mut session, &part(id, &long), Ok(Heard::Part { call: 'a', body: &long }));
    hears(&mut session, &part(id, b""), turn(id));
}

#[test]
fn empty_parts_are_limited_too() {
    let mut session = session();
    let id = session.begin(Some(640), 'a');
    for _ in 0..10 {
        hears(&mut session, &part(id, b""), Ok(Heard::Part { call: 'a', body: b"" }));
    }
    hears(&mut session, &part(id, b""), turn(id));
}

#[test]
fn parts_for_a_call_that_expects_none_are_a_violation() {
    let mut session = session();
    let id = session.begin(None, 'a');
    hears(&mut session, &part(id, b"x"), turn(id));
}

#[test]
fn what_only_a_client_says_is_a_violation() {
    let request = Request { id: 9, message_type: 1, priority: false, timeout_us: 0, window: None, body: b"" };
    let wrong = [
        (Frame::Request(request), 9),
        (Frame::OneWay { message_type: 1, body: b"" }, 0),
        (Frame::Cancel { id: 9 }, 9),
        (Frame::Credit { id: 9, bytes: 1 }, 9),
    ];
    for (frame, id) in wrong {
        hears(&mut session(), &frame, turn(id));
    }
}

#[test]
fn pings_are_answered_and_going_away_ends_new_calls() {
    let mut session = session();
    hears(&mut session, &Frame::Ping { id: 5 }, Ok(Heard::Say(Frame::Pong { id: 5 })));
    let id = session.begin(None, 'a');
    hears(&mut session, &Frame::GoingAway, Ok(Heard::GoingAway));
    assert!(!session.may_begin() && session.is_going_away());
    hears(&mut session, &response(id), answer('a'));
}

#[test]
fn the_end_hands_out_every_call_once() {
    let mut session = session();
    let ids = ['a', 'b', 'c'].map(|call| session.begin(None, call));
    session.give_up(ids[1]);
    let mut ended = Vec::new();
    session.end_all(|call| ended.push(call));
    session.end_all(|call| ended.push(call));
    ended.sort_unstable();
    assert_eq!(ended, ['a', 'c']);
}

const INTERVAL: Duration = Duration::from_secs(1);

#[test]
fn a_silent_server_is_pinged_and_then_counts_as_dead() {
    let mut session = ClientSession::<char>::new(false, 8, Some(INTERVAL));
    let start = Instant::now();
    session.begin(None, 'a');
    let mut dues = Vec::new();
    for _ in 0..3 {
        let due = session.next_deadline(start).unwrap();
        assert_eq!(session.handle_timeout(due - Duration::from_nanos(1)), Due::Nothing);
        dues.push((due - start, session.handle_timeout(due)));
    }
    assert_eq!(dues, [(INTERVAL, Due::Ping), (2 * INTERVAL, Due::Nothing), (3 * INTERVAL, Due::Dead)]);
}

#[test]
fn a_server_that_says_anything_lives() {
    let mut session = ClientSession::<char>::new(false, 8, Some(INTERVAL));
    let mut now = Instant::now();
    let id = session.begin(None, 'a');
    for _ in 0..10 {
        now = session.next_deadline(now).unwrap();
        assert_eq!(session.handle_timeout(now), Due::Ping);
        hears(&mut session, &Frame::Pong { id: 0 }, Ok(Heard::Nothing));
        now = session.next_deadline(now).unwrap();
        assert_eq!(session.handle_timeout(now), Due::Nothing);
    }
    hears(&mut session, &response(id), answer('a'));
}

#[test]
fn a_pause_without_calls_is_no_silence() {
    let mut session = ClientSession::<char>::new(false, 8, Some(INTERVAL));
    let start = Instant::now();
    let id = session.begin(None, 'a');
    session.next_deadline(start);
    hears(&mut session, &response(id), answer('a'));
    session.begin(None, 'b');
    let later = start + 100 * INTERVAL;
    assert_eq!(session.next_deadline(later), Some(later + INTERVAL));
    assert_eq!(session.handle_timeout(later), Due::Nothing);
}
