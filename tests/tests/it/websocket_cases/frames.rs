//! Families 1 to 5, 9 and 10: how frames are cut, marked and strung together.
use super::{
    Case, Chopped, Closed, Echo, FIN, LARGE, Pong, Refused, SMALL, Send, Session, command, parts,
    protobuf_command, said,
};
use hearth_tests::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, Raw, TEXT};

/// Where a length is spelled in another way, and around it.
const LENGTHS: [usize; 9] = [60, 125, 126, 127, 128, 1000, 32_767, 65_535, 65_536];

/// 1: text and binary messages of every spelling of their length, whole and in pieces.
pub fn lengths() -> Vec<Case> {
    let mut cases = vec![Case::new(
        "1 an empty text is no command, and harmless",
        vec![Send(Raw::frame(FIN | TEXT, b"")), Refused, Send(said("after")), Echo("after".into())],
    )];
    for length in LENGTHS {
        let frame = Raw::frame(FIN | TEXT, command("long", length).as_bytes());
        let echo = || Echo("long".into());
        cases.push(Case::new(format!("1 a text of {length}"), vec![Send(frame.clone()), echo()]));
        cases.push(Case::new(format!("1 a text of {length} in pieces"), vec![Chopped(frame, 997), echo()]));
    }
    // A length may be spelled longer than it need be.
    for spelled in [126, 127] {
        let text = command("spelled", 0);
        let mut frame = vec![FIN | TEXT, 0x80 | spelled];
        match spelled {
            126 => frame.extend((text.len() as u16).to_be_bytes()),
            _ => frame.extend((text.len() as u64).to_be_bytes()),
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        let steps = vec![Send(frame), Echo("spelled".into())];
        cases.push(Case::new(format!("1 a short text spelled by {spelled}"), steps));
    }
    for length in [1, 119, 120, 121, 256] {
        let id = "i".repeat(length);
        let frame = Raw::frame(FIN | BINARY, &protobuf_command(&id));
        for size in [frame.len(), 1] {
            let name = format!("1 a binary of {} in pieces of {size}", frame.len());
            let steps = vec![Chopped(frame.clone(), size), Echo(id.clone())];
            cases.push(Case::new(name, steps).on(Session::Protobuf));
        }
    }
    let wrong = [(Session::Json, BINARY), (Session::Protobuf, TEXT)];
    cases.extend(wrong.map(|(session, opcode)| {
        let steps = vec![Send(Raw::frame(FIN | opcode, b"{}")), Closed(1003)];
        Case::new("1 the other kind of message", steps).on(session)
    }));
    cases
}

/// 2: each ping has its pong, in order, and a pong has no answer.
pub fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| Raw::frame(FIN | PING, payload);
    let mut cases = Vec::new();
    for payload in [&b""[..], b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", &[0xfe; 125]] {
        for size in [200, 1] {
            let steps = vec![Chopped(ping(payload), size), Pong(payload.to_vec())];
            cases.push(Case::new(format!("2 a ping of {} in pieces of {size}", payload.len()), steps));
        }
    }
    let pong = |payload: &[u8]| Raw::frame(FIN | PONG, payload);
    cases.push(Case::new("2 a ping of 126", vec![Send(ping(&[0xfe; 126])), Closed(1002)]));
    cases.push(Case::new("2 a pong of 126", vec![Send(pong(&[0xfe; 126])), Closed(1002)]));
    for payload in [&b""[..], b"unsolicited"] {
        let steps = vec![Send(pong(payload)), Send(ping(b"then")), Pong(b"then".to_vec())];
        cases.push(Case::new("2 a pong that nobody asked for", steps));
    }
    let numbers = || (0..10).map(|n| format!("ping {n}").into_bytes());
    let all: Vec<u8> = numbers().flat_map(|payload| ping(&payload)).collect();
    for size in [all.len(), 1] {
        let steps = [Chopped(all.clone(), size)].into_iter().chain(numbers().map(Pong));
        cases.push(Case::new(format!("2 ten pings in pieces of {size}"), steps.collect()));
    }
    cases
}

/// 3: reserved bits break the rules in any frame, and what was said before them is answered.
pub fn reserved_bits() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        for (opcode, payload) in
            [(TEXT, &b"{}"[..]), (BINARY, b"x"), (PING, b"Hello"), (PONG, b""), (CLOSE, b"\x03\xe8")]
        {
            let first = FIN | bits << 4 | opcode;
            for (session, size) in [(Session::Json, 100), (Session::Json, 1), (Session::Deflated, 100)] {
                if session == Session::Deflated && bits == 4 && (opcode == TEXT || opcode == BINARY) {
                    continue;
                }
                let bytes = [said("before"), Raw::frame(first, payload)].concat();
                let steps = vec![Chopped(bytes, size), Echo("before".into()), Closed(1002)];
                cases.push(
                    Case::new(format!("3 first byte {first:#04x}, pieces of {size}"), steps).on(session),
                );
            }
        }
    }
    cases
}

/// 4: opcodes without a meaning.
pub fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for (payload, size) in [(&b""[..], 100), (b"unknown", 100), (b"unknown", 1)] {
            let bytes = [said("before"), Raw::frame(FIN | opcode, payload), said("after")].concat();
            let steps = vec![Chopped(bytes, size), Echo("before".into()), Closed(1002)];
            let name = format!("4 opcode {opcode} of {} in pieces of {size}", payload.len());
            cases.push(Case::new(name, steps));
        }
    }
    cases
}

/// 5: fragments of a message, control frames among them, and fragments that are none.
pub fn fragments() -> Vec<Case> {
    let text = command("parts", 0);
    let (front, back) = text.as_bytes().split_at(9);
    let ping = || Raw::frame(FIN | PING, b"amid");
    let (echo, pong) = (|| Echo("parts".into()), || Pong(b"amid".to_vec()));
    let first = || Raw::frame(TEXT, front);
    let last = || Raw::frame(FIN | CONTINUATION, back);
    let mut cases = vec![
        Case::new("5 a ping in fragments", vec![Send(parts(PING, &[b"a", b"b"]).concat()), Closed(1002)]),
        Case::new("5 a pong in fragments", vec![Send(parts(PONG, &[b"a", b"b"]).concat()), Closed(1002)]),
        Case::new("5 a close in fragments", vec![Send(Raw::frame(CLOSE, b"\x03\xe8")), Closed(1002)]),
        Case::new("5 two fragments, apart", vec![Send(first()), Send(last()), echo()]),
        Case::new(
            "5 a ping is answered at once",
            vec![Send(first()), Send(ping()), pong(), Send(last()), echo()],
        ),
    ];
    for size in [1000, 1] {
        let named = |what: &str| format!("5 {what}, pieces of {size}");
        let bytes = |parts: &[Vec<u8>]| Chopped(parts.concat(), size);
        let row = |what: &str, steps: Vec<super::Step>| Case::new(named(what), steps);
        let every: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        let among: Vec<Vec<u8>> = parts(TEXT, &every).into_iter().flat_map(|part| [part, ping()]).collect();
        let pongs = (0..every.len()).map(|_| pong());
        let mut answers: Vec<super::Step> = pongs.collect();
        answers.insert(every.len() - 1, echo());
        cases.extend([
            row("two fragments", vec![bytes(&[first(), last()]), echo()]),
            row("a ping between fragments", vec![bytes(&[first(), ping(), last()]), pong(), echo()]),
            row("empty fragments", vec![bytes(&parts(TEXT, &[b"", front, b"", b"", back, b""])), echo()]),
            row("all fragments empty", vec![bytes(&parts(TEXT, &[b"", b"", b""])), Refused]),
            row("a fragment a byte", vec![bytes(&parts(TEXT, &every)), echo()]),
            row("a ping behind every byte", [bytes(&among)].into_iter().chain(answers).collect()),
            row("the end of nothing", vec![bytes(&[Raw::frame(FIN, back), said("after")]), Closed(1002)]),
            row("the middle of nothing", vec![bytes(&[Raw::frame(0, back), said("after")]), Closed(1002)]),
            row("more after the end", vec![bytes(&[first(), last(), last()]), echo(), Closed(1002)]),
            row("a text amid fragments", vec![bytes(&[first(), said("amid")]), Closed(1002)]),
            row("a first fragment again", vec![bytes(&[first(), first(), last()]), Closed(1002)]),
            row(
                "a binary amid fragments",
                vec![bytes(&[first(), Raw::frame(FIN | BINARY, b"")]), Closed(1002)],
            ),
            row(
                "a close amid fragments",
                vec![bytes(&[first(), Raw::frame(FIN | CLOSE, b"\x03\xe8")]), Closed(1000)],
            ),
            row(
                "two messages in fragments",
                vec![bytes(&[first(), last(), first(), last()]), echo(), echo()],
            ),
        ]);
    }
    cases
}

/// 9: sizes up to the largest message, whole and in fragments; one byte more is refused as soon as it is promised.
pub fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    let echo = || Echo("big".into());
    for size in [64 << 10, 256 << 10, 1 << 20, LARGE] {
        let text = command("big", size);
        let frame = Raw::frame(FIN | TEXT, text.as_bytes());
        cases.push(Case::new(format!("9 {size} bytes"), vec![Send(frame.clone()), echo()]));
        for piece in [1024, 64 << 10] {
            let steps = vec![Chopped(frame.clone(), piece), echo()];
            cases.push(Case::new(format!("9 {size} bytes in pieces of {piece}"), steps));
        }
        for fragment in [256, 4096, 64 << 10] {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(fragment).collect();
            let steps = vec![Send(parts(TEXT, &chunks).concat()), echo()];
            cases.push(Case::new(format!("9 {size} bytes in fragments of {fragment}"), steps));
        }
    }
    let half = vec![b' '; LARGE / 2];
    cases.extend([
        Case::new("9 one byte too many", vec![Send(Raw::head(FIN | TEXT, 0x80, LARGE + 1)), Closed(1009)]),
        Case::new("9 a promise of 2^62", vec![Send(Raw::head(FIN | TEXT, 0x80, 1 << 62)), Closed(1009)]),
        Case::new(
            "9 one byte too many, in the last fragment",
            vec![
                Send(Raw::frame(TEXT, &half)),
                Send(Raw::frame(CONTINUATION, &half)),
                Send(Raw::head(FIN, 0x80, 1)),
                Closed(1009),
            ],
        ),
        Case::new(
            "9 and not one too few",
            vec![
                Send(Raw::frame(TEXT, command("big", LARGE / 2).as_bytes())),
                Send(Raw::frame(CONTINUATION, &half)),
                Send(Raw::frame(FIN, b"")),
                echo(),
            ],
        ),
        Case::new("9 a thousand small ones", {
            let all: Vec<u8> = (0..1000).flat_map(|n| said(&n.to_string())).collect();
            [Send(all)].into_iter().chain((0..1000).map(|n| Echo(n.to_string()))).collect()
        }),
    ]);
    cases
}

/// 10: a library that cuts messages by itself.
pub fn auto_fragments() -> Vec<Case> {
    let text = command("auto", SMALL);
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(1300).collect();
    vec![Case::new(
        "10 64 KiB in fragments of 1300",
        vec![Send(parts(TEXT, &chunks).concat()), Echo("auto".into())],
    )]
}
