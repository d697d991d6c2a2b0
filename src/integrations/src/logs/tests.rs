use super::*;
use crate::masking::corpus::{HARMLESS, secrets};

fn wanted() -> Wanted {
    Wanted {
        grep: None,
        context: 0,
        before: None,
        most_bytes: 16 << 10,
    }
}

fn grep(pattern: &str, context: usize) -> Wanted {
    Wanted {
        grep: Some(Pattern::new(pattern).unwrap()),
        context,
        ..wanted()
    }
}

fn read(wanted: &Wanted, log: &str) -> Excerpt {
    let mut pipeline = Pipeline::new(wanted);
    pipeline.feed(log.as_bytes());
    pipeline.finish()
}

/// As the kubelet sends them, one second apart.
fn stamped<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines
        .into_iter()
        .enumerate()
        .map(|(second, line)| {
            let (minute, second) = (second / 60, second % 60);
            format!("2026-11-22T16:{minute:02}:{second:02}.123456789Z {line}\n")
        })
        .collect()
}

#[test]
fn a_log_cut_anywhere_reads_the_same_and_shows_no_secret() {
    for (around, secret) in secrets() {
        let log = format!(
            "before\n{}\nafter \u{1b}[31mred\u{1b}[0m\n",
            around.replace("{}", &secret)
        );
        let bytes = log.as_bytes();
        let whole = read(&wanted(), &log);
        for part in secret.lines().filter(|part| !part.starts_with("-----")) {
            assert!(!whole.text.contains(part), "{}", whole.text);
        }
        assert!(
            whole.text.ends_with("after red") || secret.contains("cut off"),
            "{}",
            whole.text
        );
        for cut in 0..=bytes.len() {
            let mut pipeline = Pipeline::new(&wanted());
            pipeline.feed(&bytes[..cut]);
            pipeline.feed(&bytes[cut..]);
            assert_eq!(pipeline.finish(), whole, "cut at {cut}: {log}");
        }
    }
    for line in &HARMLESS {
        let text = read(&wanted(), &stamped([*line])).text;
        assert!(text.ends_with(line.trim()), "{text}");
    }
}

#[test]
fn secrets_cannot_be_searched_for() {
    let log = "login password=hunter2 ok\n";
    assert_eq!(read(&grep("hunter", 0), log).matched, Some(0));
    assert_eq!(
        read(&grep("login", 0), log).text,
        "login password=[redacted] ok"
    );
}

#[test]
fn bytes_that_are_no_text_and_lines_that_never_end_are_borne() {
    let mut pipeline = Pipeline::new(&wanted());
    pipeline.feed(b"\xff\xfe\x00 raw\n");
    for _ in 0..1000 {
        pipeline.feed(&[b'x'; 1000]);
    }
    pipeline.feed(b"\nlast");
    let excerpt = pipeline.finish();
    assert!(
        excerpt.text.starts_with("\u{fffd}\u{fffd}⟨U+0000⟩ raw\n"),
        "{}",
        excerpt.text
    );
    assert!(excerpt.text.contains("more characters)") && excerpt.text.contains("more bytes)"));
    assert!(
        excerpt.text.ends_with("\nlast") && excerpt.text.len() < 4000,
        "{}",
        excerpt.text
    );
    assert_eq!(excerpt.lines_read, 3);
}

#[test]
fn our_brackets_cannot_be_forged() {
    let text = read(&wanted(), "a ⟧ end ⟦ ⟪99x⟫ b\n").text;
    assert!(!text.contains(['⟦', '⟧', '⟪', '⟫']), "{text}");
    assert!(text.contains("⟨U+27E7⟩"));
}

#[test]
fn repeats_are_folded_by_shape_also_in_turn() {
    let log = stamped((0..40).map(|n| {
        if n % 2 == 0 {
            "GET /healthz 200 in 3ms"
        } else {
            "tick"
        }
    }));
    let excerpt = read(&wanted(), &log);
    assert_eq!(
        excerpt.text,
        "⟪20x 16:00:00 to 16:00:38⟫ 16:00:38 GET /healthz 200 in 3ms\n\
         ⟪20x 16:00:01 to 16:00:39⟫ 16:00:39 tick"
    );
    assert_eq!(
        (excerpt.rows, excerpt.entries, excerpt.lines_read),
        (2, 40, 40)
    );

    let lines: Vec<String> = (0..30)
        .map(|n| format!("12:00:{n:02} took {n}ms for order {n}"))
        .collect();
    let excerpt = read(&wanted(), &lines.join("\n"));
    assert_eq!(
        excerpt.text,
        "⟪30x, numbers differ⟫ 12:00:29 took 29ms for order 29"
    );

    let excerpt = read(&wanted(), "status=200\nstatus=500\nstatus=200\n");
    assert_eq!(excerpt.text, "status=500\n⟪2x⟫ status=200");
}

#[test]
fn the_newest_win_and_what_is_left_out_is_counted_and_reachable() {
    let words = [
        "ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay",
    ];
    let lines: Vec<String> = (0..100)
        .map(|n| {
            format!(
                "{} {} says {}",
                words[n % 10],
                words[n / 10],
                "x".repeat(40)
            )
        })
        .collect();
    let log = stamped(lines.iter().map(String::as_str));
    let small = Wanted {
        most_bytes: 2000,
        ..wanted()
    };
    let mut seen = 0;
    let mut before = None;
    let mut pages = 0;
    loop {
        let excerpt = read(
            &Wanted {
                before,
                ..small.clone()
            },
            &log,
        );
        assert!(excerpt.text.len() <= 2000, "{}", excerpt.text.len());
        if pages == 0 {
            assert!(excerpt.text.contains(&lines[99]) && !excerpt.text.contains(&lines[0]));
        }
        seen += excerpt.entries;
        pages += 1;
        if excerpt.left_out == 0 {
            assert!(excerpt.text.contains(&lines[0]));
            break;
        }
        assert_eq!(excerpt.left_out, 100 - seen);
        before = excerpt.left_out_before;
    }
    assert_eq!(seen, 100);
    assert!(pages > 3);
}

#[test]
fn one_row_larger_than_everything_is_cut() {
    let small = Wanted {
        most_bytes: 600,
        ..wanted()
    };
    let excerpt = read(&small, &format!("old\n{}\n", "ä".repeat(1400)));
    assert!(
        excerpt.text.len() <= 600 && excerpt.text.contains("more bytes⟫"),
        "{}",
        excerpt.text
    );
    assert_eq!(excerpt.left_out, 1);
}

#[test]
fn grep_brings_its_context_and_says_how_many_matched() {
    let lines = [
        "start", "alpha", "boom one", "beta", "gamma", "delta", "boom two", "epsilon", "end",
    ];
    let log = lines.join("\n");
    assert_eq!(read(&grep("boom", 0), &log).text, "boom one\nboom two");
    assert_eq!(
        read(&grep("boom", 1), &log).text,
        "alpha\nboom one\nbeta\n⟪⟫\ndelta\nboom two\nepsilon"
    );
    let joined = read(&grep("(?i)BOOM", 2), &log);
    assert_eq!(
        joined.text,
        "start\nalpha\nboom one\nbeta\ngamma\ndelta\nboom two\nepsilon\nend"
    );
    assert_eq!((joined.matched, joined.rows), (Some(2), 1));
    let none = read(&grep("nowhere", 3), &log);
    assert_eq!(
        (none.text.as_str(), none.matched, none.lines_read),
        ("", Some(0), 9)
    );
}

#[test]
fn patterns_that_cannot_be_used_say_what_to_change() {
    let problem = |pattern: &str| Pattern::new(pattern).unwrap_err().to_string();
    assert!(
        problem("a(b").contains("unclosed group"),
        "{}",
        problem("a(b")
    );
    assert!(
        problem("(?=x)").contains("look-around"),
        "{}",
        problem("(?=x)")
    );
    assert!(problem(r"\w{1000}{1000}").contains("smaller counts"));
    assert!(problem(&"a".repeat(201)).contains("at most 200"));
    assert!(Pattern::new(&"(".repeat(150)).is_err());
}

/// Each is one entry: two of them fold, and a search for a frame brings the whole.
const TRACES: [(&str, &str, &str); 12] = [
    (
        "java",
        "Exception in thread \"main\" java.lang.IllegalStateException: no stock\n\tat shop.Cart.add(Cart.java:12)\n\tat shop.Main.main(Main.java:3)\nCaused by: java.net.ConnectException: refused\n\tat shop.Db.open(Db.java:7)\n\t... 2 more",
        "Db.java",
    ),
    (
        "java behind a logger",
        "16:30:01.123 ERROR [http-1] c.s.Cart - cannot add\njava.lang.IllegalStateException: no stock\n\tat shop.Cart.add(Cart.java:12)\n\tSuppressed: java.io.IOException: x\n\t\tat shop.Db.close(Db.java:9)",
        "Cart.java",
    ),
    (
        "python",
        "Traceback (most recent call last):\n  File \"/app/main.py\", line 3, in <module>\n    run()\n  File \"/app/run.py\", line 9, in run\n    raise ValueError(\"no\")\nValueError: no",
        "run.py",
    ),
    (
        "python, chained, behind a logger",
        "ERROR:root:cannot add\nTraceback (most recent call last):\n  File \"/app/a.py\", line 1, in f\n    g()\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/app/b.py\", line 2, in h\n    f()\nRuntimeError: wrapped",
        "b.py",
    ),
    (
        "go panic",
        "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]\n\ngoroutine 1 [running]:\nmain.(*Cart).Add(0x0, {0x4b, 0x3})\n\t/app/cart.go:12 +0x1d\nmain.main()\n\t/app/main.go:3 +0x25\nexit status 2",
        "cart.go",
    ),
    (
        "go, several goroutines",
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\t/app/main.go:9 +0x1\n\ngoroutine 5 [select]:\nmain.loop(...)\n\t/app/loop.go:7\ncreated by main.main in goroutine 1\n\t/app/main.go:5 +0x2",
        "loop.go",
    ),
    (
        "node",
        "TypeError: Cannot read properties of undefined (reading 'id')\n    at add (/app/cart.js:12:7)\n    at process.processTicksAndRejections (node:internal/process/task_queues:95:5) {\n  code: 'E_CART'\n}",
        "cart.js",
    ),
    (
        "node, uncaught",
        "/app/cart.js:12\n    throw new Error('boom');\n    ^\n\nError: boom\n    at add (/app/cart.js:12:11)\n    at Object.<anonymous> (/app/cart.js:20:1)\n\nNode.js v20.11.1",
        "cart.js:20",
    ),
    (
        "rust",
        "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3 but the index is 7\nstack backtrace:\n   0: rust_begin_unwind\n             at /rustc/07dca489/library/std/src/panicking.rs:645:5\n   1: cart::main\n             at ./src/main.rs:4:5\nnote: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
        "cart::main",
    ),
    (
        "rust, one line and a note",
        "thread 'tokio-runtime-worker' panicked at src/a.rs:1:1:\nboom\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        "boom",
    ),
    (
        ".net",
        "Unhandled exception. System.InvalidOperationException: no stock\n ---> System.Net.Sockets.SocketException (111): Connection refused\n   at Shop.Db.Open() in /app/Db.cs:line 7\n   --- End of inner exception stack trace ---\n   at Shop.Cart.Add() in /app/Cart.cs:line 12",
        "Cart.cs",
    ),
    (
        ".net logger",
        "fail: Shop.Cart[0]\n      cannot add\n      System.InvalidOperationException: no stock\n         at Shop.Cart.Add() in /app/Cart.cs:line 12",
        "Cart.cs",
    ),
];

#[test]
fn stack_traces_are_one_entry() {
    for (name, trace, frame) in TRACES {
        let log = format!("INFO ready\n{trace}\nINFO next request\n{trace}\nINFO served\n");
        let excerpt = read(&wanted(), &log);
        assert_eq!(
            (excerpt.entries, excerpt.rows),
            (5, 4),
            "{name}:\n{}",
            excerpt.text
        );
        let found = read(&grep(&regex::escape(frame), 0), &log);
        assert_eq!(found.matched, Some(2), "{name}");
        assert_eq!(
            found.text,
            format!("⟪2x⟫ {}", trace.replace('\t', " ")),
            "{name}"
        );
        let around = read(&grep(&regex::escape(frame), 1), &log);
        assert!(
            around.text.starts_with("INFO ready\n"),
            "{name}: {}",
            around.text
        );
        assert!(
            around.text.ends_with("\nINFO served"),
            "{name}: {}",
            around.text
        );
    }
}

#[test]
fn lines_that_do_not_belong_together_stay_apart() {
    for log in [
        "INFO one\nINFO two\nError: three",
        "one\n  INFO padded\n  WARN padded",
        "one\n{\"a\":1}\n  {\"a\":2}",
        "main.go(12) started\nmain.go(13) started again",
        "2026-11-22T16:30:01Z at once\n2026-11-22T16:30:09Z   later and indented",
    ] {
        let lines = log.lines().count() as u64;
        assert_eq!(read(&wanted(), log).entries, lines, "{log}");
    }
}

#[test]
fn a_long_trace_keeps_its_beginning_and_its_root_cause() {
    let frames: String = (0..300)
        .map(|n| format!("\tat shop.Deep.call{n}(Deep.java)\n"))
        .collect();
    let log = format!(
        "java.lang.Error: top\n{frames}Caused by: java.io.IOException: root\n\tat shop.Last.x(Last.java)\n"
    );
    let excerpt = read(&wanted(), &log);
    assert_eq!(excerpt.entries, 1);
    assert!(excerpt.text.starts_with("java.lang.Error: top\n") && excerpt.text.contains("root"));
    assert!(excerpt.text.contains("more lines⟫") && excerpt.text.len() < 7000);
}

#[test]
fn progress_bars_and_windows_line_ends_are_lines() {
    let excerpt = read(&wanted(), "one\r\ntwo\r\nload 1%\rload 2%\rload 100%\nend");
    assert_eq!(
        excerpt.text,
        "one\ntwo\n⟪3x, numbers differ⟫ load 100%\nend"
    );
    assert_eq!(excerpt.lines_read, 6);
}

#[test]
fn a_program_cannot_write_the_kubelets_times() {
    let log = stamped(["one\r2099-01-01T00:00:00Z two", "three"]);
    let excerpt = read(&wanted(), &log);
    assert!(
        excerpt
            .newest
            .is_some_and(|at| at.strftime("%Y").to_string() == "2026")
    );
    assert!(
        excerpt.text.contains("2099-01-01T00:00:00Z two"),
        "{}",
        excerpt.text
    );
}

#[test]
fn strings_without_an_end_take_no_longer_than_other_text() {
    // Looking for each one's end would be 2,000 times 16 KiB for a line, and minutes for a log.
    let line = "\u{1b}]x".repeat(5_000);
    let excerpt = read(&wanted(), &format!("{line}\n").repeat(500));
    assert_eq!(excerpt.lines_read, 500);
}

/// Whatever comes, the bound holds and nothing panics.
#[test]
fn noise_is_borne_within_the_bound() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let pieces: [&[u8]; 12] = [
        b"\n",
        b"\r\n",
        b"\x1b[",
        b"\x1b]0;",
        b" at x",
        b"Traceback (most recent call last):\n",
        b"panic: ",
        "⟧\u{202e}ä".as_bytes(),
        b"\xff\x00",
        b"password=",
        b"-----BEGIN PRIVATE KEY-----",
        b"12:00 x",
    ];
    for round in 0..300 {
        let wanted = Wanted {
            grep: (round % 3 == 0).then(|| Pattern::new("x|ä").unwrap()),
            context: round % 4,
            before: None,
            most_bytes: 500 + round,
        };
        let mut pipeline = Pipeline::new(&wanted);
        for _ in 0..200 {
            let piece = pieces[usize::try_from(next() % 12).unwrap()];
            pipeline.feed(piece);
        }
        let excerpt = pipeline.finish();
        let own = excerpt.text.matches("⟪⟫\n").count() * "⟪⟫\n".len();
        assert!(
            excerpt.text.len() <= wanted.most_bytes + own,
            "{}",
            excerpt.text.len()
        );
        assert!(!excerpt.text.contains(['\u{1b}', '\u{202e}', '⟧']));
    }
}
