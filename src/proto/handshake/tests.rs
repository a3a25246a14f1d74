use super::*;
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: Limits = Limits {
    layout_version: 1,
    segment_features_known: 1,
    is_ring_bytes: |bytes| bytes.is_power_of_two() && (16384..=1 << 30).contains(&bytes),
    endpoint_slots_max: 65536,
};

fn terms() -> Terms {
    Terms {
        ring_bytes: 1 << 20,
        message_bytes_max: 64 << 20,
        barrier: true,
        endpoint_slots: 1024,
        wake_cost_ns: 20_000,
        ..Terms::new(Purpose::Connection)
    }
}

/// What a reader of a route or channel says.
fn reader() -> Terms {
    Terms { message_bytes_max: 64 << 20, barrier: true, history: 7, ..Terms::new(Purpose::Route) }
}

/// What the sender of a channel answers.
fn writer() -> Terms {
    let instance = 0x0807_0605_0403_0201;
    let ring = Terms { ring_bytes: 1 << 20, segment_features: 1, ..Terms::new(Purpose::Channel) };
    Terms { message_bytes_max: 9, wake_cost_ns: 5, instance, policy: 3, ..ring }
}

fn every_message() -> Vec<Message> {
    let monitor = Terms::new(Purpose::Monitor);
    vec![
        Message::Hello(terms()),
        Message::Welcome(terms()),
        Message::Refused(Refusal::NotAllowed),
        Message::Hello(reader()),
        Message::Hello(Terms { purpose: Purpose::Channel, history: u32::MAX, ..reader() }),
        Message::Welcome(writer()),
        Message::Welcome(Terms { purpose: Purpose::Route, ..writer() }),
        Message::Hello(monitor.clone()),
        Message::Welcome(Terms { endpoint_slots: 5, ..monitor }),
        Message::Knock(Knock { purpose: Purpose::Route, instance: u64::MAX, name: [0; 8] }),
        Message::Knock(Knock { purpose: Purpose::Channel, instance: 1, name: *b"az27bcde" }),
        Message::Joined(Joined { start: 1 << 40 | 8, messages: 9 }),
    ]
}

fn inbox() -> Inbox<u32> {
    Inbox::new(Instant::now() + Duration::from_secs(60))
}

#[test]
fn messages_survive_encoding() {
    for message in every_message() {
        assert_eq!(Message::decode(&message.encode(1), &LIMITS), Ok(message));
    }
    for code in 1..=8 {
        assert_eq!(refusal_of(code).map(refusal_code), Some(code));
    }
    assert_eq!(refusal_of(0), None);
}

#[test]
fn a_hello_has_these_bytes() {
    let bytes = Message::Hello(terms()).encode(1);
    let mut golden = Vec::new();
    golden.extend_from_slice(b"RINGWAYH\x01\x00\x01\x00\x01\x00\x00\x00\x80\x00\x00\x00\x01\x00\x00\x00");
    golden.extend_from_slice(&[0; 24]);
    golden.extend_from_slice(&(1_u64 << 20).to_le_bytes());
    golden.extend_from_slice(&(64_u64 << 20).to_le_bytes());
    golden.extend_from_slice(b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x20\x4e\x00\x00");
    golden.extend_from_slice(b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00");
    golden.resize(MESSAGE_BYTES, 0);
    assert_eq!(bytes.as_slice(), golden);
}

/// The first 24 bytes of a message of this type and purpose.
fn head(message_type: u8, purpose: u8) -> Vec<u8> {
    let mut bytes = b"RINGWAYH\x01\x00".to_vec();
    bytes.extend_from_slice(&[message_type, 0, 1, 0, 0, 0, 128, 0, 0, 0, purpose, 0, 0, 0]);
    bytes
}

#[track_caller]
fn assert_golden(message: &Message, mut golden: Vec<u8>) {
    golden.resize(MESSAGE_BYTES, 0);
    assert_eq!(message.encode(1).as_slice(), golden);
}

#[test]
fn the_hello_of_a_reader_and_its_answer_have_these_bytes() {
    let mut hello = head(1, 2);
    hello.extend_from_slice(&[0; 32]);
    hello.extend_from_slice(&(64_u64 << 20).to_le_bytes());
    hello.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    hello.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
    assert_golden(&Message::Hello(reader()), hello);
    let mut welcome = head(2, 3);
    welcome.extend_from_slice(&[0; 16]);
    for number in [1_u64, 1 << 20, 9] {
        welcome.extend_from_slice(&number.to_le_bytes());
    }
    welcome.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    welcome.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    welcome.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_golden(&Message::Welcome(writer()), welcome);
}

#[test]
fn what_a_monitor_says_and_hears_has_these_bytes() {
    assert_golden(&Message::Hello(Terms::new(Purpose::Monitor)), head(1, 4));
    let mut welcome = head(2, 4);
    welcome.resize(72, 0);
    welcome.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3]);
    assert_golden(&Message::Welcome(Terms { endpoint_slots: 5, ..Terms::new(Purpose::Monitor) }), welcome);
}

#[test]
fn a_knock_and_the_start_of_a_reader_have_these_bytes() {
    let mut knock = head(4, 3);
    knock.resize(96, 0);
    knock.extend_from_slice(b"\x01\x02\x03\x04\x05\x06\x07\x08az27bcde");
    let name = *b"az27bcde";
    assert_golden(
        &Message::Knock(Knock { purpose: Purpose::Channel, instance: 0x0807_0605_0403_0201, name }),
        knock,
    );
    let mut joined = head(5, 0);
    joined.resize(96, 0);
    joined.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    assert_golden(&Message::Joined(Joined { start: 1 << 16, messages: 9 }), joined);
}

#[test]
fn every_skew_of_the_messages_of_routes_and_channels_is_refused_by_its_name() {
    let joined = Message::Joined(Joined { start: 8, messages: 1 });
    let knock = |purpose, name| Message::Knock(Knock { purpose, instance: 1, name });
    let (of_route, of_channel) = (knock(Purpose::Route, [0; 8]), knock(Purpose::Channel, *b"abcdefgh"));
    let hello = Message::Hello(reader());
    let welcome = Message::Welcome(writer());
    let monitor = Message::Hello(Terms::new(Purpose::Monitor));
    let skews: [(&Message, usize, u8, Refusal); 27] = [
        (&hello, at::RING_BYTES + 2, 16, Refusal::Malformed),
        (&hello, at::SEGMENT_FEATURES, 1, Refusal::Malformed),
        (&hello, at::MESSAGE_BYTES_MAX + 3, 0, Refusal::Malformed),
        (&hello, at::INSTANCE, 1, Refusal::Malformed),
        (&hello, at::DESCRIPTOR_COUNT, 2, Refusal::Descriptors),
        (&hello, at::DESCRIPTOR_KINDS + 1, 2, Refusal::Descriptors),
        (&welcome, at::RING_BYTES + 2, 0, Refusal::Malformed),
        (&welcome, at::SEGMENT_FEATURES, 4, Refusal::Features),
        (&welcome, at::POLICY, 4, Refusal::Malformed),
        (&welcome, at::POLICY + 3, 1, Refusal::Malformed),
        (&welcome, at::NAME, 1, Refusal::Malformed),
        (&welcome, at::DESCRIPTOR_KINDS, 3, Refusal::Descriptors),
        (&monitor, at::MESSAGE_BYTES_MAX, 1, Refusal::Malformed),
        (&monitor, at::RING_BYTES + 2, 16, Refusal::Malformed),
        (&monitor, at::HISTORY, 1, Refusal::Malformed),
        (&monitor, at::DESCRIPTOR_COUNT, 1, Refusal::Descriptors),
        (&of_route, at::PURPOSE, 1, Refusal::Purpose),
        (&of_route, at::PURPOSE, 3, Refusal::Malformed),
        (&of_route, at::NAME, b'a', Refusal::Malformed),
        (&of_route, at::FLAGS, 1, Refusal::Malformed),
        (&of_route, at::HISTORY, 1, Refusal::Malformed),
        (&of_channel, at::NAME + 7, b'/', Refusal::Malformed),
        (&of_channel, at::NAME, b'A', Refusal::Malformed),
        (&of_channel, at::RESERVED, 1, Refusal::Malformed),
        (&joined, at::START, 9, Refusal::Malformed),
        (&joined, at::PURPOSE, 2, Refusal::Malformed),
        (&joined, at::HISTORY, 1, Refusal::Malformed),
    ];
    for (message, offset, value, refusal) in skews {
        let mut bytes = message.encode(1);
        bytes[offset] = value;
        assert_eq!(Message::decode(&bytes, &LIMITS), Err(refusal), "{message:?}: byte {offset} = {value}");
    }
}

#[test]
fn every_skew_is_refused_by_its_name() {
    let skews: [(usize, u8, Refusal); 14] = [
        (at::MAGIC, 0, Refusal::Malformed),
        (at::VERSION, 2, Refusal::Version),
        (at::LAYOUT, 2, Refusal::Version),
        (at::TYPE, 9, Refusal::Malformed),
        (at::BYTES, 1, Refusal::Malformed),
        (at::PURPOSE, 99, Refusal::Purpose),
        (at::REQUIRED, 1, Refusal::Features),
        (at::SEGMENT_FEATURES, 2, Refusal::Features),
        (at::RING_BYTES, 1, Refusal::Malformed),
        (at::FLAGS, 2, Refusal::Malformed),
        (at::DESCRIPTOR_COUNT, 3, Refusal::Descriptors),
        (at::HISTORY, 1, Refusal::Malformed),
        (at::INSTANCE, 1, Refusal::Malformed),
        (MESSAGE_BYTES - 1, 1, Refusal::Malformed),
    ];
    for (offset, value, refusal) in skews {
        let mut bytes = Message::Hello(terms()).encode(1);
        bytes[offset] = value;
        assert_eq!(Message::decode(&bytes, &LIMITS), Err(refusal), "byte {offset} = {value}");
    }
}

#[test]
fn an_optional_feature_of_a_later_version_is_no_obstacle() {
    let mut bytes = Message::Hello(terms()).encode(1);
    bytes[at::OFFERED] = 0xff;
    assert!(Message::decode(&bytes, &LIMITS).is_ok());
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let bytes = Message::Hello(terms()).encode(1);
    let mut inbox = inbox();
    for byte in &bytes[..MESSAGE_BYTES - 1] {
        assert_eq!(inbox.feed(&[*byte], Vec::new(), &LIMITS), Ok(None));
    }
    assert_eq!(inbox.missing(), 1);
    let last = inbox.feed(&bytes[MESSAGE_BYTES - 1..], vec![7, 8], &LIMITS);
    assert_eq!(last, Ok(Some((Message::Hello(terms()), vec![7, 8]))));
}

#[test]
fn a_wrong_number_of_descriptors_is_refused() {
    let bytes = Message::Hello(terms()).encode(1);
    for count in [0, 1, 3, 8, 9, 200] {
        let descriptors = (0..count).collect();
        assert_eq!(inbox().feed(&bytes, descriptors, &LIMITS), Err(Refusal::Descriptors), "{count}");
    }
    assert_eq!(inbox().feed(&[0; 129], Vec::new(), &LIMITS), Err(Refusal::Malformed));
}

#[test]
fn patience_ends_at_the_deadline() {
    let now = Instant::now();
    let inbox: Inbox<u32> = Inbox::new(now + Duration::from_secs(1));
    assert!(!inbox.is_expired(now));
    assert!(inbox.is_expired(now + Duration::from_secs(1)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_passes_is_bounded(
        which in 0_usize..12,
        bytes in prop::array::uniform32(any::<[u8; 4]>()),
        keep in 0_usize..MESSAGE_BYTES,
    ) {
        let mut message = every_message()[which].encode(1);
        let noise: Vec<u8> = bytes.concat();
        message[keep..].copy_from_slice(&noise[keep..]);
        check_bounds(&message)?;
    }

    #[test]
    fn one_byte_changed_leaves_every_message_bounded(
        which in 0_usize..12,
        offset in 0_usize..MESSAGE_BYTES,
        value: u8,
    ) {
        let mut message = every_message()[which].encode(1);
        message[offset] = value;
        check_bounds(&message)?;
    }
}

fn check_bounds(bytes: &[u8; MESSAGE_BYTES]) -> Result<(), TestCaseError> {
    match Message::decode(bytes, &LIMITS) {
        Ok(Message::Hello(terms)) => {
            let has_ring = terms.purpose == Purpose::Connection;
            prop_assert!(has_ring && (LIMITS.is_ring_bytes)(terms.ring_bytes) || terms.ring_bytes == 0);
        }
        Ok(Message::Welcome(terms)) => {
            let has_ring = terms.purpose != Purpose::Monitor;
            prop_assert!(has_ring == (LIMITS.is_ring_bytes)(terms.ring_bytes));
            prop_assert!(has_ring == (terms.message_bytes_max > 0) && terms.policy < 4);
        }
        Ok(Message::Knock(knock)) => {
            prop_assert!(knock.purpose.is_broadcast() && !knock.name.contains(&b'/'));
        }
        Ok(Message::Joined(joined)) => prop_assert_eq!(joined.start % 8, 0),
        Ok(Message::Refused(_)) | Err(_) => {}
    }
    Ok(())
}
