//! Splits a Rust file into code, strings and comments, as well as the rules need it.
//!
//! This is not a parser. It knows comments (nested ones too), strings, raw strings, character literals and
//! lifetimes, matches brackets, and finds the items behind `#[cfg(test)]`.

/// One file, seen three ways; all views have the same lines and columns.
pub struct Source {
    /// Path relative to the root of the repository, with `/`.
    pub path: String,
    /// Code alone: comments, strings and character literals are blank.
    pub code: Vec<String>,
    /// Code and literals: only comments are blank.
    pub literal: Vec<String>,
    /// Comments alone.
    pub comment: Vec<String>,
    /// Words, `::` and single punctuation marks of the code view.
    pub tokens: Vec<Token>,
    /// For every line: does it belong to test code?
    test: Vec<bool>,
}

/// A word or a punctuation mark, and the line (from 1) it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Literal,
    Comment,
}

impl Source {
    /// Reads `text` as the file `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let kinds = classify(&chars);
        let code = view(&chars, &kinds, |kind| kind == Kind::Code);
        let tokens = tokenize(&code);
        let test = test_lines(path, &tokens, code.len());
        Self {
            path: path.to_owned(),
            literal: view(&chars, &kinds, |kind| kind != Kind::Comment),
            comment: view(&chars, &kinds, |kind| kind == Kind::Comment),
            code,
            tokens,
            test,
        }
    }

    /// Whether `line` (from 1) is test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.test.get(line - 1).copied().unwrap_or(false)
    }

    /// Number of lines that are not test code.
    pub fn lines_without_tests(&self) -> usize {
        self.test.iter().filter(|test| !**test).count()
    }

    /// Whether a comment on `line` or on one of the `above` lines before it has `word`, in any case.
    pub fn comment_near(&self, line: usize, above: usize, word: &str) -> bool {
        let first = line.saturating_sub(above).max(1);
        let word = word.to_lowercase();
        self.comment[first - 1..line].iter().any(|text| has_word(&text.to_lowercase(), &word))
    }

    /// The text of token `at`, or "" past the end.
    pub fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

/// Whether `text` contains `word` and not only as a part of a longer identifier.
pub fn has_word(text: &str, word: &str) -> bool {
    let joins =
        |inner: Option<char>, outer: Option<char>| inner.is_some_and(in_word) && outer.is_some_and(in_word);
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !joins(word.chars().next(), before) && !joins(word.chars().next_back(), after)
    })
}

/// Whether `text` is an identifier, a keyword or a number.
pub fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(in_word)
}

/// Index of the bracket that closes the one at `open`, or of the last token.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Functions with a body: name, first line, last line.
pub fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
    let named =
        |at: usize| tokens[at].text == "fn" && tokens.get(at + 1).is_some_and(|next| is_word(&next.text));
    let found = (0..tokens.len()).filter(|at| named(*at)).filter_map(|at| {
        let end = item_end(tokens, at + 1);
        let has_body = tokens[end].text == "}" && end > at;
        has_body.then(|| (tokens[at + 1].text.clone(), tokens[at].line, tokens[end].line))
    });
    found.collect()
}

/// Last token of the item that starts at `from`: its `;`, or the end of its block.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "(" | "[" => at = closing(tokens, at) + 1,
            "{" => return closing(tokens, at),
            ";" | "}" => return at,
            _ => at += 1,
        }
    }
    tokens.len() - 1
}

fn test_lines(path: &str, tokens: &[Token], lines: usize) -> Vec<bool> {
    let mut test = vec![is_test_path(path); lines];
    for at in 0..tokens.len() {
        let inner = at + 1 < tokens.len() && tokens[at].text == "#" && tokens[at + 1].text == "!";
        let open = at + 1 + usize::from(inner);
        if tokens[at].text != "#" || tokens.get(open).is_none_or(|token| token.text != "[") {
            continue;
        }
        let close = closing(tokens, open);
        if !is_test_attribute(&tokens[open + 1..close]) {
            continue;
        }
        let last = if inner { lines } else { tokens[item_end(tokens, close + 1)].line };
        test[tokens[at].line - 1..last].fill(true);
    }
    test
}

fn is_test_path(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "loom_tests.rs"))
}

/// `cfg(test)` and `cfg(all(.., test, ..))`; `any` and `not` may be part of the product.
fn is_test_attribute(attribute: &[Token]) -> bool {
    let words: Vec<&str> =
        attribute.iter().map(|token| token.text.as_str()).filter(|text| is_word(text)).collect();
    let certain = words == ["cfg", "test"] || words.starts_with(&["cfg", "all"]);
    certain && words.contains(&"test") && !words.contains(&"any") && !words.contains(&"not")
}

fn tokenize(code: &[String]) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, text) in code.iter().enumerate() {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (token, tail) = rest.split_at(token_bytes(rest));
            tokens.push(Token { text: token.to_owned(), line: index + 1 });
            rest = tail.trim_start();
        }
    }
    tokens
}

fn token_bytes(text: &str) -> usize {
    let word = text.find(|c| !in_word(c)).unwrap_or(text.len());
    match word {
        0 if text.starts_with("::") => 2,
        0 => text.chars().next().map_or(1, char::len_utf8),
        bytes => bytes,
    }
}

fn view(chars: &[char], kinds: &[Kind], keep: impl Fn(Kind) -> bool) -> Vec<String> {
    let pairs = chars.iter().zip(kinds);
    let text: String = pairs.map(|(c, kind)| if *c == '\n' || keep(*kind) { *c } else { ' ' }).collect();
    text.lines().map(str::to_owned).collect()
}

fn classify(chars: &[char]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(chars.len());
    while kinds.len() < chars.len() {
        let (kind, end) = next_piece(chars, kinds.len());
        kinds.resize(end.min(chars.len()), kind);
    }
    kinds
}

/// The kind of the piece that starts at `at`, and its end.
fn next_piece(chars: &[char], at: usize) -> (Kind, usize) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (Kind::Comment, find(chars, at, |c| c == '\n')),
        '/' if next == Some('*') => (Kind::Comment, block_comment_end(chars, at)),
        '"' => (Kind::Literal, quoted_end(chars, at, '"')),
        '\'' => char_piece(chars, at),
        c if in_word(c) => word_piece(chars, at),
        _ => (Kind::Code, at + 1),
    }
}

/// A character literal, or else the tick of a lifetime or a label.
fn char_piece(chars: &[char], at: usize) -> (Kind, usize) {
    let escaped = chars.get(at + 1) == Some(&'\\');
    let literal = escaped || chars.get(at + 2) == Some(&'\'');
    if literal { (Kind::Literal, quoted_end(chars, at, '\'')) } else { (Kind::Code, at + 1) }
}

/// A word, or the raw string that its first letters announce.
fn word_piece(chars: &[char], at: usize) -> (Kind, usize) {
    let end = find(chars, at, |c| !in_word(c));
    let word: String = chars[at..end].iter().collect();
    let quote = find(chars, end, |c| c != '#');
    if !matches!(word.as_str(), "r" | "br" | "cr") || chars.get(quote) != Some(&'"') {
        return (Kind::Code, end);
    }
    (Kind::Literal, raw_string_end(chars, quote, quote - end))
}

fn raw_string_end(chars: &[char], quote: usize, hashes: usize) -> usize {
    let closes = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (quote + 1..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes)
}

fn quoted_end(chars: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn block_comment_end(chars: &[char], open: usize) -> usize {
    let (mut at, mut depth) = (open, 0_usize);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn find(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| stop(chars[*at])).unwrap_or(chars.len())
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
