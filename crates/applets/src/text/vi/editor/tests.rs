use super::*;

/// Keys as they are typed: `<` and `>` around those without a letter.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let named = [
            ("<esc>", Key::Escape),
            ("<cr>", Key::Enter),
            ("<bs>", Key::Backspace),
            ("<c-r>", Key::Control('r')),
            ("<down>", Key::Down),
        ];
        match named.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, key)) => {
                keys.push(*key);
                rest = &rest[name.len()..];
            }
            None => {
                keys.push(Key::Char(c));
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    keys
}

fn typed(text: &str, typed: &str) -> (Editor, Effect) {
    let mut editor = Editor::new(text, Some("file".into()));
    let mut effect = Effect::None;
    for key in keys(typed) {
        effect = editor.key(key);
    }
    (editor, effect)
}

#[test]
fn commands_change_the_text() {
    let cases: &[(&str, &str, &str)] = &[
        ("", "ihello<esc>", "hello\n"),
        ("a\nb\n", "ox<cr>y<esc>", "a\nx\ny\nb\n"),
        ("b\n", "Oa<esc>", "a\nb\n"),
        ("abc\n", "x", "bc\n"),
        ("abc\n", "$x", "ab\n"),
        ("abc\n", "2xp", "cab\n"),
        ("a\nb\nc\n", "dd", "b\nc\n"),
        ("a\nb\nc\n", "2ddp", "c\na\nb\n"),
        ("a\nb\nc\n", "jddP", "a\nb\nc\n"),
        ("a\nb\nc\n", "yyjp", "a\nb\na\nc\n"),
        ("a\n", "yy3p", "a\na\na\na\n"),
        ("one two three\n", "dw", "two three\n"),
        ("one two three\n", "wcwTWO<esc>", "one TWO three\n"),
        ("one two three\n", "2dw", "three\n"),
        ("one two three\n", "d2w", "three\n"),
        ("one two\nthree\n", "wdw", "one \nthree\n"),
        ("one two\n", "$daw", "one two\n"),
        ("one two\n", "wD", "one \n"),
        ("one two\n", "$db", "one o\n"),
        ("f(a, b) c\n", "f(d%", "f c\n"),
        ("a.b.c\n", "dt.", ".b.c\n"),
        ("a.b.c\n", "d2f.", "c\n"),
        ("abc\n", "rx", "xbc\n"),
        ("abc\n", "2rx", "xxc\n"),
        ("abc\n", "9rx", "abc\n"),
        ("aBc\n", "3~", "AbC\n"),
        ("a\n  b\nc\n", "J", "a b\nc\n"),
        ("a\nb\nc\n", "3J", "a b c\n"),
        ("abc\n", "Rxy<esc>", "xyc\n"),
        ("abc\n", "A<bs><bs>d<esc>", "ad\n"),
        ("a\nb\n", "ji<bs>x<esc>", "axb\n"),
        ("a\nb\nc\n", "dG", ""),
        ("a\nb\nc\n", "Gdgg", ""),
        ("a\nb\nc\nd\n", "jdj", "a\nd\n"),
        ("a b a b\n", "xw.", "  a b\n"),
        ("a\nb\n", "Ax<esc>j.", "ax\nbx\n"),
        ("a\nb\n", ">>j.<<", "\ta\nb\n"),
        ("a\n", "cclong<esc>", "long\n"),
        ("a\n", "ix<esc>u", "a\n"),
        ("a\n", "ix<esc>iy<esc>uu<c-r>", "xa\n"),
        ("a b\nb\n", ":%s/b/c/<cr>", "a c\nc\n"),
        ("aa a\n", ":s/a/[&]/g<cr>", "[a][a] [a]\n"),
        ("a/b\n", r":s/a\/(b)/\1$/<cr>", "b$\n"),
        ("a\nb\nc\n", ":2,3d<cr>", "a\n"),
        ("x\nfoo\ny foo\n", "/foo<cr>nx", "x\nfoo\ny oo\n"),
        ("foo\nx\nfoo y\n", "?foo<cr>x", "foo\nx\noo y\n"),
        ("x\n", "/nothing<cr>x", ""),
        ("ä€\n", "xp", "€ä\n"),
        ("a\n\n\nb\n", "d}", "\n\nb\n"),
    ];
    for (text, keys, wanted) in cases {
        let (editor, _) = typed(text, keys);
        assert_eq!(editor.text(), *wanted, "{keys} on {text:?}");
    }
}

#[test]
fn commands_ask_for_files() {
    let write = |path: &str, quit| Effect::Write { path: path.into(), quit };
    for (keys, wanted) in [
        (":w<cr>", write("file", false)),
        (":w other<cr>", write("other", false)),
        (":wq<cr>", write("file", true)),
        (":q<cr>", Effect::Quit),
        ("xZZ", write("file", true)),
        ("ZZ", Effect::Quit),
        ("x:q<cr>", Effect::None),
        ("x:q!<cr>", Effect::Quit),
        (":r more<cr>", Effect::Read("more".into())),
        (":nonsense<cr>", Effect::None),
    ] {
        assert_eq!(typed("abc\n", keys).1, wanted, "{keys}");
    }
    let mut nameless = Editor::new("", None);
    for key in keys(":w<cr>") {
        assert_eq!(nameless.key(key), Effect::None);
    }
    assert!(nameless.message.contains("no file"));
}

#[test]
fn the_screen_fits_and_shows_the_cursor() {
    let text: String = (1..=100).map(|n| format!("line {n}\n")).collect();
    let (mut editor, _) = typed(&text, "50G");
    let screen = editor.screen(24, 80);
    assert_eq!(screen.matches("\r\n").count(), 23);
    assert!(screen.contains("line 50") && !screen.contains("line 51"));
    assert!(screen.ends_with("\x1b[23;1H\x1b[?25h"));
    let (mut editor, _) = typed(&"x".repeat(500), "$");
    let screen = editor.screen(24, 80);
    assert!(screen.split("\r\n").all(|line| line.len() < 120), "a line is wider than the screen");
    let (mut editor, _) = typed("\x1b]0;x\x07\n", "");
    assert!(!editor.screen(24, 80).contains("\x1b]"));
}

#[test]
fn no_keys_bring_it_down() {
    let mut state = 88_172_645_463_325_252_u64;
    let letters: Vec<char> =
        "hjklwbe0^$gGfFtT%;iaIAoOxXr~JDCsSdcypPu.><nN/?:{}ZRY12359 \t(é".chars().collect();
    for text in ["", "a", "one two\n\n(three) four\n", "\n\n\n"] {
        let mut editor = Editor::new(text, None);
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state % 80).unwrap();
            let key = match letters.get(at) {
                Some(c) => Key::Char(*c),
                None => [
                    Key::Escape,
                    Key::Enter,
                    Key::Backspace,
                    Key::Control('r'),
                    Key::Up,
                    Key::Right,
                    Key::Delete,
                    Key::End,
                ][at % 8],
            };
            let _ = editor.key(key);
            assert!(editor.row < editor.lines.len() && editor.column <= editor.line().len());
            if editor.lines.len() > 5_000 {
                editor = Editor::new(text, None);
            }
        }
        let _ = editor.screen(24, 80);
    }
}
