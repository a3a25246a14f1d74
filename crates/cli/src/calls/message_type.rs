//! Message types: by number, or by the names that the handlers of `ringway serve` have.

use std::fmt;
use std::str::FromStr;

/// The type of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageType(pub u16);

impl MessageType {
    /// Answers with the body.
    pub const ECHO: Self = Self(1);
    /// Counts, and answers with the count.
    pub const SINK: Self = Self(2);
    /// Answers in parts.
    pub const SOURCE: Self = Self(3);
    /// Answers later.
    pub const SLEEP: Self = Self(4);
    /// Answers with a failure.
    pub const FAIL: Self = Self(5);
    /// Answers with the body in capital letters.
    pub const UPPER: Self = Self(6);
    /// Answers with the sum of numbers.
    pub const SUM: Self = Self(7);
    /// Panics; for tests, and in no help.
    pub const PANIC: Self = Self(0xFE00);

    fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, known)| *known == self).map(|(name, _)| *name)
    }
}

impl FromStr for MessageType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, known)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*known);
        }
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).filter(|name| *name != "panic").collect();
        let unknown = || format!("neither one of {} nor a number below {END}", names.join(", "));
        let number = match text.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.ok().filter(|number| *number < END).map(Self).ok_or_else(unknown)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

const NAMES: [(&str, MessageType); 8] = [
    ("echo", MessageType::ECHO),
    ("sink", MessageType::SINK),
    ("source", MessageType::SOURCE),
    ("sleep", MessageType::SLEEP),
    ("fail", MessageType::FAIL),
    ("upper", MessageType::UPPER),
    ("sum", MessageType::SUM),
    ("panic", MessageType::PANIC),
];
/// From here on types belong to the protocol.
const END: u16 = 0xFF00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_a_name_or_a_number() {
        assert_eq!("echo".parse(), Ok(MessageType::ECHO));
        assert_eq!("1".parse(), Ok(MessageType::ECHO));
        assert_eq!("0x0007".parse(), Ok(MessageType::SUM));
        assert_eq!("65279".parse(), Ok(MessageType(0xFEFF)));
        for wrong in ["65280", "-1", "", "Echo", "0x", "0xFF00", "70000"] {
            let error = wrong.parse::<MessageType>().unwrap_err();
            assert!(error.contains("echo, sink") && !error.contains("panic"), "{error}");
        }
        assert_eq!(
            (MessageType::SINK.to_string(), MessageType(99).to_string()),
            ("sink".into(), "99".into())
        );
    }
}
