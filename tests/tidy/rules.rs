//! The rules. Each is a function from one file to the complaints about it; none touches the disk.

use std::fmt;

use super::source::{Source, closing, functions, has_word, is_word};

/// One broken rule: where, which, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub path: String,
    pub line: usize,
    pub rule: &'static str,
    pub advice: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.advice)
    }
}

fn complaint(path: &str, line: usize, rule: &'static str, advice: String) -> Complaint {
    Complaint { path: path.to_owned(), line, rule, advice }
}

/// Every layer and the layers it may import.
///
/// `lib.rs` may name all of them; a layer may always name itself.
pub const LAYERS: &[(&str, &[&str])] = &[
    ("primitive", &[]),
    ("error", &[]),
    ("sys", &["error"]),
    ("crash", &["sys"]),
    ("shm", &["sys", "primitive", "error", "crash"]),
    ("metrics", &["shm", "primitive", "crash"]),
    ("ring", &["shm", "primitive", "error", "crash"]),
    ("wait", &["shm", "sys", "primitive", "error", "crash"]),
    ("proto", &["error"]),
    ("config", &["error", "sys", "shm", "wait", "proto"]),
    ("connection", BELOW_CONNECTION),
    ("broadcast", UP_TO_CONNECTION),
    ("route", UP_TO_BROADCAST),
    ("channel", UP_TO_BROADCAST),
    ("rpc", UP_TO_CONNECTION),
    ("aio", EVERYTHING),
];

const BELOW_CONNECTION: &[&str] =
    &["primitive", "error", "sys", "crash", "shm", "metrics", "ring", "wait", "proto", "config"];

const UP_TO_CONNECTION: &[&str] = &[
    "primitive",
    "error",
    "sys",
    "crash",
    "shm",
    "metrics",
    "ring",
    "wait",
    "proto",
    "config",
    "connection",
];

const UP_TO_BROADCAST: &[&str] = &[
    "primitive",
    "error",
    "sys",
    "crash",
    "shm",
    "metrics",
    "ring",
    "wait",
    "proto",
    "config",
    "connection",
    "broadcast",
];

const EVERYTHING: &[&str] = &[
    "primitive",
    "error",
    "sys",
    "crash",
    "shm",
    "metrics",
    "ring",
    "wait",
    "proto",
    "config",
    "connection",
    "broadcast",
    "route",
    "channel",
    "rpc",
];

/// Where unsafe code may live: a folder ends with `/`.
/// `modelled.rs` stands in for `bytes.rs` under the model checker and never ships; `raw.rs` measures what the hardware
/// and the kernel can do.
pub const UNSAFE_ALLOWED: &[&str] =
    &["src/sys/", "src/shm/bytes.rs", "src/shm/copy/", "src/shm/modelled.rs", "crates/bench/src/raw.rs"];

/// The one declaration outside of those places: unsafe to call, without an unsafe body.
const UNSAFE_DECLARATION: (&str, &str) = ("src/config.rs", "pub unsafe fn trust_peer");

/// Words that only `src/sys` may say in code.
pub const OS_WORDS: &[&str] = &["rustix", "libc", "target_os", "/proc/"];

/// Banned in every text of the repository. Written in halves, so that this file may stay in it.
pub const BANNED: &[&str] = &[
    concat!("FUTEX_WAIT_", "PRIVATE"),
    concat!("FUTEX_WAKE_", "PRIVATE"),
    concat!("FUTEX_PRIVATE_", "FLAG"),
    concat!("Flags", "::PRIVATE"),
    concat!("FutexFlags", "::PRIVATE"),
    concat!("atomic", "_wait"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("for ", "now,"),
];

/// Banned in Rust code, tests included; comments and strings may say it.
pub const BANNED_IN_CODE: &[&str] = &[concat!("WaitOn", "Address("), concat!("dbg", "!(")];

/// Banned in the code of the product; tests may do it.
pub const BANNED_IN_PRODUCT: &[&str] = &[concat!("thread::", "sleep"), concat!(".unwrap", "()")];

/// Atomics whose width or meaning differs between builds: never in shared memory.
pub const UNSHARED_ATOMICS: &[&str] = &["AtomicUsize", "AtomicIsize", "AtomicBool", "AtomicPtr"];

/// Orderings that need a partner, and so a comment that names it.
pub const ORDERINGS: &[&str] = &["Acquire", "Release", "AcqRel", "SeqCst"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const SAFETY_LINES_ABOVE: usize = 6;
const PAIRS_LINES_ABOVE: usize = 8;

/// Imports between layers go downwards only.
pub fn layer_arrows(path: &str, text: &str) -> Vec<Complaint> {
    const RULE: &str = "layer arrows";
    let Some(layer) = layer_of(path) else { return Vec::new() };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        let advice = format!("`{layer}` is no layer; add it to the table `LAYERS` in tests/tidy/rules.rs");
        return vec![complaint(path, 1, RULE, advice)];
    };
    let wrong = root_names(&Source::new(path, text)).into_iter().filter_map(|(name, line)| {
        if name == layer || allowed.contains(&name.as_str()) {
            return None;
        }
        let known = LAYERS.iter().any(|(other, _)| *other == name);
        let advice = if known {
            format!("`{layer}` may not import `{name}`, only {allowed:?}; move the code or pass the value in")
        } else {
            format!(
                "`{name}` at the root of the crate is no layer; name it through the layer that defines it"
            )
        };
        Some(complaint(path, line, RULE, advice))
    });
    wrong.collect()
}

/// The first part of `path` below `src`, without `.rs`; `None` for `lib.rs` and files elsewhere.
fn layer_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let layer = first.strip_suffix(".rs").unwrap_or(first);
    (layer != "lib").then_some(layer)
}

/// Every name that a path takes from the root of the crate, by `crate::` or by enough `super::`.
fn root_names(source: &Source) -> Vec<(String, usize)> {
    let mut names = Vec::new();
    let mut modules: Vec<usize> = Vec::new();
    for at in 0..source.tokens.len() {
        modules.retain(|close| *close > at);
        if source.token(at) == "mod" && source.token(at + 2) == "{" {
            modules.push(closing(&source.tokens, at + 2));
        }
        let depth = file_depth(&source.path) + modules.len();
        if let Some(head) = root_path_head(source, at, depth) {
            names.extend(heads(source, head));
        }
    }
    names
}

/// Where the name stands that the path starting at `at` takes from the root of the crate.
fn root_path_head(source: &Source, at: usize, depth: usize) -> Option<usize> {
    let continued = at > 0 && source.token(at - 1) == "::";
    match source.token(at) {
        "crate" if source.token(at + 1) == "::" => Some(at + 2),
        "super" if !continued => {
            let steps = (0..).take_while(|step| is_super_step(source, at + 2 * step)).count();
            (steps == depth).then_some(at + 2 * steps)
        }
        _ => None,
    }
}

fn is_super_step(source: &Source, at: usize) -> bool {
    source.token(at) == "super" && source.token(at + 1) == "::"
}

/// How many modules the file is below the root: `src/ring/mod.rs` 1, `src/ring/position.rs` 2.
fn file_depth(path: &str) -> usize {
    let parts = path.strip_prefix("src/").unwrap_or(path).split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The name at `at`, or the first name of each element of the group `{..}` there.
fn heads(source: &Source, at: usize) -> Vec<(String, usize)> {
    if source.token(at) != "{" {
        return source.tokens.get(at).map(|token| (token.text.clone(), token.line)).into_iter().collect();
    }
    let mut found = Vec::new();
    let end = closing(&source.tokens, at);
    let mut inner = at + 1;
    while inner < end {
        let starts = matches!(source.token(inner - 1), "{" | ",") && source.token(inner) != "self";
        if starts {
            found.push((source.token(inner).to_owned(), source.tokens[inner].line));
        }
        inner = if source.token(inner) == "{" { closing(&source.tokens, inner) + 1 } else { inner + 1 };
    }
    found
}

/// Unsafe code stands on the allow-list only.
pub fn unsafe_allow_list(path: &str, text: &str) -> Vec<Complaint> {
    const RULE: &str = "unsafe allow-list";
    if UNSAFE_ALLOWED.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place)) {
        return Vec::new();
    }
    let source = Source::new(path, text);
    let mut declarations = 0;
    let mut complaints = Vec::new();
    for (index, code) in source.code.iter().enumerate() {
        let opts_in = has_word(code, "unsafe_code") && !code.contains("deny(") && !code.contains("forbid(");
        let keyword = has_word(code, "unsafe");
        if keyword && path == UNSAFE_DECLARATION.0 && is_the_declaration(code) && declarations == 0 {
            declarations += 1;
        } else if keyword || opts_in && !belongs_to_the_declaration(&source, index) {
            let advice =
                format!("unsafe code lives in {UNSAFE_ALLOWED:?} only; call a safe function from there");
            complaints.push(complaint(path, index + 1, RULE, advice));
        }
    }
    complaints
}

fn is_the_declaration(code: &str) -> bool {
    code.trim_start()
        .strip_prefix(UNSAFE_DECLARATION.1)
        .is_some_and(|rest| rest.starts_with('(') && code.matches("unsafe").count() == 1)
}

/// The lint also fires on the declaration, so its own attribute is allowed there.
fn belongs_to_the_declaration(source: &Source, index: usize) -> bool {
    let item = source.code[index..].iter().find(|code| {
        let code = code.trim_start();
        !code.is_empty() && !code.starts_with("#[")
    });
    let attribute = source.code[index].trim_start().starts_with("#[");
    source.path == UNSAFE_DECLARATION.0 && attribute && item.is_some_and(|code| is_the_declaration(code))
}

/// Every unsafe block and impl says why it is sound.
pub fn unsafe_has_a_proof(path: &str, text: &str) -> Vec<Complaint> {
    let source = Source::new(path, text);
    let mut complaints = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        let opens = token.text == "unsafe" && matches!(source.token(at + 1), "{" | "impl");
        if opens && !source.comment_near(token.line, SAFETY_LINES_ABOVE, "SAFETY:") {
            let advice = format!(
                "write `// SAFETY:` within the {SAFETY_LINES_ABOVE} lines above: where was each duty met?"
            );
            complaints.push(complaint(path, token.line, "unsafe without a proof", advice));
        }
    }
    complaints
}

/// What an operating system is called, and what it offers, is known in `src/sys` alone.
pub fn os_knowledge(path: &str, text: &str) -> Vec<Complaint> {
    if !path.starts_with("src/") || path.starts_with("src/sys/") || path == "src/sys.rs" {
        return Vec::new();
    }
    let source = Source::new(path, text);
    let mut complaints = Vec::new();
    for (index, code) in source.literal.iter().enumerate() {
        let named = OS_WORDS.iter().find(|word| has_word(code, word));
        let named = named.copied().or_else(|| code.contains("memfd").then_some("memfd"));
        if let Some(word) = named {
            let advice = format!("`{word}` belongs into src/sys; give it a function there and call that");
            complaints.push(complaint(path, index + 1, "OS knowledge outside src/sys", advice));
        }
    }
    complaints
}

/// No file is longer than a reader's patience.
pub fn file_length(path: &str, text: &str) -> Vec<Complaint> {
    let lines = Source::new(path, text).lines_without_tests();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let advice = format!("{lines} lines without tests, at most {FILE_LINES_MAX}; split the file by idea");
    vec![complaint(path, FILE_LINES_MAX + 1, "file length", advice)]
}

/// No function is longer than a screen.
pub fn function_length(path: &str, text: &str) -> Vec<Complaint> {
    let source = Source::new(path, text);
    let long = functions(&source.tokens).into_iter().filter_map(|(name, first, last)| {
        let lines = last - first + 1;
        let advice = format!(
            "`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}; move straight-line work to a helper"
        );
        let wrong = lines > FUNCTION_LINES_MAX && !source.is_test(first);
        wrong.then(|| complaint(path, first, "function length", advice))
    });
    long.collect()
}

/// Words that are wrong wherever they stand.
pub fn banned_words(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in BANNED.iter().filter(|word| has_word(line, word) || has_word(&line.to_lowercase(), word))
        {
            complaints.push(banned(path, index + 1, word));
        }
    }
    complaints
}

/// Calls that are wrong in Rust code.
pub fn banned_calls(path: &str, text: &str) -> Vec<Complaint> {
    let source = Source::new(path, text);
    let in_product = path.starts_with("src/");
    let mut complaints = Vec::new();
    for (index, code) in source.code.iter().enumerate() {
        let product = in_product && !source.is_test(index + 1);
        let words = BANNED_IN_CODE.iter().chain(BANNED_IN_PRODUCT.iter().filter(|_| product));
        for word in words.filter(|word| has_word(code, word)) {
            complaints.push(banned(path, index + 1, word));
        }
    }
    complaints
}

fn banned(path: &str, line: usize, word: &str) -> Complaint {
    let advice = match word {
        word if word.contains("PRIVATE") || word.contains("Wait") || word.contains("_wait") => {
            "does not wake another process; use the shared form in src/sys"
        }
        word if word.contains("sleep") => "is not synchronisation; use src/wait",
        word if word.contains("unwrap") => {
            "return the error, or state the fact with expect(\"invariant: ..\")"
        }
        word if word.contains("dbg") => "remove it",
        _ => "finish it, or open an issue and say here what holds today",
    };
    complaint(path, line, "banned word", format!("`{word}`: {advice}"))
}

/// What two processes share has the same width and meaning in both.
pub fn shared_fields(path: &str, text: &str) -> Vec<Complaint> {
    if !["src/shm", "src/ring"].iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let source = Source::new(path, text);
    let wrong = source
        .tokens
        .iter()
        .filter(|token| UNSHARED_ATOMICS.contains(&token.text.as_str()) && !source.is_test(token.line));
    let advice = |word: &str| format!("`{word}` may not be shared; use AtomicU32 or AtomicU64");
    wrong.map(|token| complaint(path, token.line, "shared fields", advice(&token.text))).collect()
}

/// Every ordering names its partner.
pub fn orderings_name_their_pair(path: &str, text: &str) -> Vec<Complaint> {
    const RULE: &str = "orderings";
    let source = Source::new(path, text);
    let mut complaints = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        if token.text != "Ordering" || source.is_test(token.line) {
            continue;
        }
        if hides_orderings(&source, at) {
            let advice = "import `Ordering` under its name and write `Ordering::Acquire` in full".to_owned();
            complaints.push(complaint(path, token.line, RULE, advice));
        }
        let name = source.token(at + 2);
        let needs_pair = source.token(at + 1) == "::" && ORDERINGS.contains(&name);
        let line = source.tokens.get(at + 2).map_or(token.line, |token| token.line);
        if needs_pair && !source.comment_near(line, PAIRS_LINES_ABOVE, "pairs") {
            let advice = format!("say within the {PAIRS_LINES_ABOVE} lines above what `{name}` pairs with");
            complaints.push(complaint(path, line, RULE, advice));
        }
    }
    complaints
}

/// `Ordering::*`, `Ordering::{Acquire, ..}` and `Ordering as O` would escape the rule.
fn hides_orderings(source: &Source, at: usize) -> bool {
    match (source.token(at + 1), source.token(at + 2)) {
        ("as", _) | ("::", "*") => true,
        ("::", "{") => heads(source, at + 2).iter().any(|(name, _)| ORDERINGS.contains(&name.as_str())),
        _ => false,
    }
}

/// Every foreign crate is explained in `CONTRIBUTING.md`, whose text is `explained`.
pub fn dependencies_are_explained(path: &str, text: &str, explained: &str) -> Vec<Complaint> {
    let is_explained = |name: &str| {
        let entry = format!("- `{name}`");
        explained.lines().any(|line| line.starts_with(&entry))
    };
    let missing = dependencies(text).into_iter().filter(|(name, _)| !is_explained(name));
    let advice = |name: &str| {
        format!("add a line \"- `{name}` (where): why; cost; who maintains it.\" to CONTRIBUTING.md")
    };
    missing.map(|(name, line)| complaint(path, line, "dependencies", advice(&name))).collect()
}

/// Names of the foreign crates in the dependency tables of a `Cargo.toml`, with their lines.
pub fn dependencies(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut in_table = false;
    let mut open_brackets = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if open_brackets == 0 && line.starts_with('[') {
            let header = line.trim_matches(['[', ']']);
            in_table = is_dependency_table(header);
            found.extend(dependency_table_name(header).map(|name| (name, index + 1)));
        } else if open_brackets == 0 && in_table {
            found.extend(dependency_key(line).map(|name| (name, index + 1)));
        }
        open_brackets += line.matches('[').count();
        open_brackets = open_brackets.saturating_sub(line.matches(']').count());
    }
    found
}

fn is_dependency_table(header: &str) -> bool {
    let last = header.rsplit('.').next().unwrap_or(header);
    matches!(last, "dependencies" | "dev-dependencies" | "build-dependencies")
}

/// The crate of `[dependencies.name]`.
fn dependency_table_name(header: &str) -> Option<String> {
    let (table, name) = header.rsplit_once('.')?;
    is_dependency_table(table).then(|| name.trim_matches('"').to_owned())
}

/// The crate of `name = ..`; `None` for crates of this workspace.
fn dependency_key(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    if line.starts_with('#') || has_word(value, "path") {
        return None;
    }
    let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
    let name = renamed.unwrap_or_else(|| key.split('.').next().unwrap_or(key).trim().trim_matches('"'));
    is_word(name).then(|| name.to_owned())
}
