//! Shows for every rule a text that breaks it and one that does not, and tries the reader on tricky input.

use super::rules::{self, Complaint};
use super::source::{Source, functions, has_word};

/// Lines of the complaints that `rule` has about `text`.
fn lines(rule: impl Fn(&str, &str) -> Vec<Complaint>, path: &str, text: &str) -> Vec<usize> {
    rule(path, text).iter().map(|complaint| complaint.line).collect()
}

fn code(text: &str) -> String {
    Source::new("src/x.rs", text).code.join("\n")
}

#[test]
fn a_complaint_names_file_line_rule_and_remedy() {
    let complaints = rules::layer_arrows("src/ring/mod.rs", "\nuse crate::connection::Sender;");
    let text = complaints[0].to_string();
    assert!(
        text.starts_with("src/ring/mod.rs:2: layer arrows: `ring` may not import `connection`"),
        "{text}"
    );
}

#[test]
fn an_import_from_a_higher_layer_is_reported() {
    for text in [
        "use crate::wait::Doorbell;",
        "use crate::{error::Violation, wait::{self, Doorbell}};",
        "fn f() { crate::wait::ring() }",
        "use super::super::wait::Doorbell;",
        "mod tests { use super::super::super::wait::Doorbell; }",
        "use crate::Config;",
        "use crate::*;",
    ] {
        assert_eq!(lines(rules::layer_arrows, "src/ring/producer.rs", text), [1], "{text}");
    }
    assert_eq!(lines(rules::layer_arrows, "src/error.rs", "use super::sys;"), [1]);
    assert_eq!(lines(rules::layer_arrows, "src/ring/tests.rs", "use crate::wait::X;"), [1]);
}

#[test]
fn an_import_from_a_lower_layer_or_the_own_layer_is_fine() {
    for text in [
        "use crate::{error::{Violation, wait}, primitive, shm};",
        "use super::position::Position;",
        "mod tests { use super::super::record; use super::*; }",
        "// crate::wait::Doorbell\nconst A: &str = \"crate::wait\";",
        "pub(in crate::ring) fn f() { self::super::g() }",
        "pub(crate) fn f() {}",
    ] {
        assert_eq!(rules::layer_arrows("src/ring/producer.rs", text), [], "{text}");
    }
    assert_eq!(rules::layer_arrows("src/lib.rs", "use crate::rpc::Server;"), []);
}

#[test]
fn a_folder_outside_the_table_is_reported() {
    let complaints = rules::layer_arrows("src/misc/mod.rs", "");
    assert!(complaints[0].advice.contains("add it to the table"), "{}", complaints[0]);
}

#[test]
fn the_table_of_layers_has_no_cycle() {
    for (index, (layer, allowed)) in rules::LAYERS.iter().enumerate() {
        let below: Vec<&str> = rules::LAYERS[..index].iter().map(|(name, _)| *name).collect();
        assert!(allowed.iter().all(|name| below.contains(name)), "{layer} imports a layer listed after it");
    }
}

#[test]
fn unsafe_code_outside_the_allow_list_is_reported() {
    for text in [
        "fn f() { unsafe { g() } }",
        "pub unsafe fn f() {}",
        "unsafe impl Send for X {}",
        "#![allow(unsafe_code)]",
        "#[expect(dead_code, unsafe_code)]",
    ] {
        assert_eq!(lines(rules::unsafe_allow_list, "src/ring/mod.rs", text), [1], "{text}");
        assert_eq!(rules::unsafe_allow_list("src/sys/linux/map.rs", text), [], "{text}");
        assert_eq!(rules::unsafe_allow_list("src/shm/bytes.rs", text), [], "{text}");
        assert_eq!(rules::unsafe_allow_list("crates/bench/src/raw.rs", text), [], "{text}");
        assert_eq!(lines(rules::unsafe_allow_list, "crates/bench/src/peer/raw.rs", text), [1], "{text}");
    }
    let harmless = "#![deny(unsafe_code)]\n// unsafe { }\nconst A: &str = \"unsafe {\";\nfn unsafe_name() {}";
    assert_eq!(rules::unsafe_allow_list("src/lib.rs", harmless), []);
}

#[test]
fn only_config_may_declare_trust_peer_and_only_once() {
    let once =
        "/// # Safety\n#[allow(unsafe_code)]\n#[must_use]\npub unsafe fn trust_peer(self) -> Self {}\n";
    assert_eq!(rules::unsafe_allow_list("src/config.rs", once), []);
    assert_eq!(lines(rules::unsafe_allow_list, "src/ring/mod.rs", once), [2, 4]);
    assert_eq!(lines(rules::unsafe_allow_list, "src/config.rs", &format!("{once}{once}")), [8]);
    let with_body = "pub unsafe fn trust_peer() { unsafe { f() } }";
    assert_eq!(lines(rules::unsafe_allow_list, "src/config.rs", with_body), [1]);
    let wide = "#![allow(unsafe_code)]\npub unsafe fn trust_peer(self) {}";
    assert_eq!(lines(rules::unsafe_allow_list, "src/config.rs", wide), [1]);
    let other = "pub unsafe fn trust_peers(self) {}";
    assert_eq!(lines(rules::unsafe_allow_list, "src/config.rs", other), [1]);
}

#[test]
fn an_unsafe_block_without_a_safety_comment_is_reported() {
    assert_eq!(lines(rules::unsafe_has_a_proof, "src/sys/a.rs", "fn f() {\n unsafe { g() }\n}"), [2]);
    assert_eq!(lines(rules::unsafe_has_a_proof, "src/sys/a.rs", "unsafe impl Send for X {}"), [1]);
    let far = format!("// SAFETY: here\n{}unsafe {{ g() }}", "\n".repeat(6));
    assert_eq!(lines(rules::unsafe_has_a_proof, "src/sys/a.rs", &far), [8]);
    let near = format!("// SAFETY: here\n{}unsafe {{ g() }}", "\n".repeat(5));
    assert_eq!(rules::unsafe_has_a_proof("src/sys/a.rs", &near), []);
    let pretence = "const A: &str = \"SAFETY:\"; unsafe { g() }";
    assert_eq!(lines(rules::unsafe_has_a_proof, "src/sys/a.rs", pretence), [1]);
}

#[test]
fn knowledge_of_the_system_outside_sys_is_reported() {
    for text in [
        "use rustix::fs;",
        "fn f() { libc::close(0); }",
        "#[cfg(target_os = \"linux\")]",
        "let a = \"/proc/self/fd\";",
        "let fd = memfd_create();",
    ] {
        assert_eq!(lines(rules::os_knowledge, "src/shm/segment.rs", text), [1], "{text}");
        assert_eq!(rules::os_knowledge("src/sys/linux/mod.rs", text), [], "{text}");
    }
    assert_eq!(
        rules::os_knowledge("src/shm/segment.rs", "/// A memfd, see `/proc/self/fd`.\n/* libc:: */"),
        []
    );
}

#[test]
fn a_file_past_600_lines_is_reported_without_its_tests() {
    let full = "const A: u8 = 0;\n".repeat(600);
    assert_eq!(rules::file_length("src/ring/mod.rs", &full), []);
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n";
    assert_eq!(rules::file_length("src/ring/mod.rs", &format!("{full}{tests}")), []);
    assert_eq!(lines(rules::file_length, "src/ring/mod.rs", &format!("{full}{tests}fn g() {{}}\n")), [601]);
    assert_eq!(rules::file_length("src/ring/tests.rs", &format!("{full}{full}")), []);
}

#[test]
fn a_function_past_70_lines_is_reported() {
    let function = |inner: usize| format!("\nfn long() {{\n{}}}\n", "    f();\n".repeat(inner));
    assert_eq!(rules::function_length("src/ring/mod.rs", &function(68)), []);
    assert_eq!(lines(rules::function_length, "src/ring/mod.rs", &function(69)), [2]);
    let test = format!("#[cfg(test)]\nmod tests {{\n{}}}", function(99));
    assert_eq!(rules::function_length("src/ring/mod.rs", &test), []);
}

#[test]
fn every_banned_word_is_reported() {
    for word in rules::BANNED {
        assert_eq!(lines(rules::banned_words, "README.md", &format!("a\nb {word} c")), [2], "{word}");
    }
    assert_eq!(lines(rules::banned_words, "a.md", concat!("For", " now, it works")), [1]);
    let private_mapping = concat!("Map", "Flags", "::PRIVATE");
    assert_eq!(rules::banned_words("src/sys/a.rs", private_mapping), []);
}

#[test]
fn every_banned_call_is_reported_outside_of_comments() {
    for word in rules::BANNED_IN_CODE {
        assert_eq!(
            lines(rules::banned_calls, "tests/a.rs", &format!("\nfn f() {{ {word}1); }}")),
            [2],
            "{word}"
        );
        assert_eq!(rules::banned_calls("tests/a.rs", &format!("// {word}")), []);
    }
    for word in rules::BANNED_IN_PRODUCT {
        assert_eq!(
            lines(rules::banned_calls, "src/a.rs", &format!("fn f() {{ a{word}; {word}; }}")),
            [1],
            "{word}"
        );
        assert_eq!(rules::banned_calls("tests/a.rs", &format!("fn f() {{ {word}; }}")), []);
        let test = format!("#[cfg(test)]\nmod tests {{\n{word};\n}}");
        assert_eq!(rules::banned_calls("src/a.rs", &test), []);
    }
}

#[test]
fn an_atomic_of_unfixed_width_in_shared_memory_is_reported() {
    for word in rules::UNSHARED_ATOMICS {
        let text = format!("struct Header {{ tail: {word} }}");
        assert_eq!(lines(rules::shared_fields, "src/ring/header.rs", &text), [1], "{word}");
        assert_eq!(lines(rules::shared_fields, "src/shm/layout.rs", &text), [1], "{word}");
        assert_eq!(rules::shared_fields("src/connection/mod.rs", &text), []);
    }
    assert_eq!(rules::shared_fields("src/ring/header.rs", "struct Header { tail: AtomicU64 }"), []);
}

#[test]
fn an_ordering_without_its_pair_is_reported() {
    for name in rules::ORDERINGS {
        let bare = format!("x.load(Ordering::{name});");
        assert_eq!(lines(rules::orderings_name_their_pair, "src/ring/a.rs", &bare), [1], "{name}");
        let far = format!("// pairs with B\n{}{bare}", "\n".repeat(8));
        assert_eq!(lines(rules::orderings_name_their_pair, "src/ring/a.rs", &far), [10], "{name}");
        for fine in [format!("// Pairs with B\n{}{bare}", "\n".repeat(7)), format!("{bare} // pairs with B")]
        {
            assert_eq!(rules::orderings_name_their_pair("src/ring/a.rs", &fine), [], "{name}");
        }
    }
    for hidden in ["use a::Ordering::*;", "use a::Ordering::{Acquire, Relaxed};", "use a::Ordering as O;"] {
        assert_eq!(lines(rules::orderings_name_their_pair, "src/ring/a.rs", hidden), [1], "{hidden}");
    }
    let fine = "use std::cmp::Ordering::{Less, Equal}; x.load(Ordering::Relaxed);";
    assert_eq!(rules::orderings_name_their_pair("src/ring/a.rs", fine), []);
}

#[test]
fn a_dependency_without_a_line_in_contributing_is_reported() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nserde = \"1\"\nloom = \"1\"\n";
    let rule =
        |path: &str, text: &str| rules::dependencies_are_explained(path, text, "- `serde` (program): why");
    assert_eq!(lines(rule, "Cargo.toml", manifest), [5]);
    let mentioned = |path: &str, text: &str| rules::dependencies_are_explained(path, text, "`serde`, loom");
    assert_eq!(lines(mentioned, "Cargo.toml", manifest), [4, 5]);
}

#[test]
fn dependencies_are_found_in_every_form_of_table() {
    let manifest = "[dependencies]\n# comment = \"1\"\na = \"1\"\nb.workspace = true\n\
        c = { version = \"1\", features = [\n  \"x\", \"y=z\",\n] }\nown = { path = \"../own\" }\n\
        alias = { package = \"d\", version = \"1\" } # why = \"x\"\n[features]\nnot = []\n\
        [target.'cfg(loom)'.dependencies]\ne = \"1\"\n[dev-dependencies.f]\nversion = \"1\"\n\
        [build-dependencies]\ng = \"1\"\n[workspace.dependencies]\nh = \"1\"\n";
    let names: Vec<String> = rules::dependencies(manifest).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[test]
fn comments_strings_and_characters_are_no_code() {
    for (text, expected) in [
        ("a // { \"\nb", "a b"),
        ("a /* { /* } */ \" */ b", "a b"),
        ("a /// {\nb //! }", "a b"),
        (r#"f("{ \" // {", c, "\\", d)"#, "f( , c, , d)"),
        (r#"f('{', c, '\'', d, '"', e, '\\', g)"#, "f( , c, , d, , e, , g)"),
        ("fn f<'a>(x: &'a str) -> &'static str {}", "fn f<'a>(x: &'a str) -> &'static str {}"),
        ("'outer: loop { break 'outer }", "'outer: loop { break 'outer }"),
        ("a\n\"{\n}\"\nb", "a b"),
    ] {
        let seen = code(text);
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(seen.chars().count(), text.chars().count(), "columns must stay: {text}");
    }
}

#[test]
fn raw_strings_end_at_their_own_number_of_hashes() {
    let text = "f(r##\"{ \"# \\\" // \"##, br\"\\\", r#type, for_r\"x\")";
    assert_eq!(code(text).replace(' ', ""), "f(,,r#type,for_r)");
}

#[test]
fn an_unfinished_literal_does_not_run_past_the_end() {
    for text in ["\"abc", "r#\"abc\"", "/* abc", "'\\", "\"\\", "'", "/"] {
        assert_eq!(code(text).chars().count(), text.chars().count(), "{text}");
    }
}

#[test]
fn functions_are_measured_over_brackets_in_literals() {
    let text = "trait T {\n    fn declared(x: [u8; 4]);\n}\nconst fn f(g: fn(u8) -> u8) -> [u8; 2]\nwhere\n    u8: Copy,\n\
        {\n    let a = \"}\"; let b = '}'; // }\n    [0; 2]\n}\nfn h() {}\n";
    let found = functions(&Source::new("src/x.rs", text).tokens);
    assert_eq!(found, [("f".to_owned(), 4, 10), ("h".to_owned(), 11, 11)]);
}

#[test]
fn only_items_behind_cfg_test_are_test_code() {
    let text = "#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(all(test, loom))]\n#[path = \"x\"]\nmod b {\n}\nfn c() {}\n\
        #[cfg(not(test))]\nfn d() {}\n#[cfg(any(test, feature = \"x\"))]\nfn e() {}\n";
    let source = Source::new("src/x.rs", text);
    let test: Vec<usize> = (1..=12).filter(|line| source.is_test(*line)).collect();
    assert_eq!(test, [1, 2, 4, 5, 6, 7]);
    assert!(Source::new("src/x.rs", "#![cfg(test)]\nfn a() {}").is_test(2));
    assert!(Source::new("src/ring/tests/model.rs", "fn a() {}").is_test(1));
}

#[test]
fn a_word_inside_a_longer_identifier_does_not_count() {
    assert!(has_word("a libc::close", "libc"));
    assert!(has_word("x.unwrap()", ".unwrap()"));
    assert!(!has_word("glibc libc_x", "libc"));
    assert!(!has_word("unsafe_code", "unsafe"));
}
