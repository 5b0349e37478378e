//! What is said passes as it was said, but for the author, who is the server's word.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{
    Session, Transport,
    command::{Data, Range},
};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("data: verbatim", verbatim),
        Behaviour::new("data: the author is the server's word", author),
        Behaviour::new("data: bytes, as JSON clients see them", bytes),
    ]
}

/// A number keeps its digits, a string its escapes, an object its members as they stand.
async fn verbatim(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    let rows = [
        r#"{"n":1.00,"big":12345678901234567890123,"tiny":1e-400,"s":"\u00e9\/é\"","deep":[[ 1 , {"a":null}]],"":"🙂"}"#,
        r#"{"z":1,"a":2,"z2":"\u0000\ud83d\ude42"}"#,
        r#"{"spaced" : [ true ]}"#,
        r#"{"twice":1,"twice":2}"#,
    ];
    for (kind, n) in ["text", "signal"].into_iter().zip(0..) {
        for (row, data) in rows.iter().enumerate() {
            ann.publish(&case.room, kind, Some(&format!("{n}{row}")), data).await.unwrap();
            let heard = ben.next().await;
            let body = data.strip_suffix('}').unwrap();
            assert_eq!(heard.data, format!(r#"{body},"author":"ann"}}"#), "{heard:?}");
        }
    }
    // Line breaks between tokens are taken out, so that an envelope is one line.
    ann.publish(&case.room, "text", None, "{\n\"a\":\r\n[1,\n2]}").await.unwrap();
    let heard = ben.next().await;
    assert_eq!(heard.data, r#"{"a":[1,2],"author":"ann"}"#, "{heard:?}");
    // Nothing is something too.
    ann.publish(&case.room, "text", None, "{}").await.unwrap();
    assert_eq!(ben.next().await.data, r#"{"author":"ann"}"#);
    Outcome::Kept
}

async fn author(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    let rows = [
        (r#"{"author":"eve"}"#, r#"{"author":"ann"}"#),
        (r#"{"\u0061uthor":"eve"}"#, r#"{"author":"ann"}"#),
        (r#"{"author":{"author":1},"author":"eve"}"#, r#"{"author":"ann"}"#),
        (r#"{"a":1,"author":"eve","b":2}"#, r#"{"a":1,"b":2,"author":"ann"}"#),
        (r#"{"quote":{"author":"eve"}}"#, r#"{"quote":{"author":"eve"},"author":"ann"}"#),
    ];
    for kind in ["text", "signal"] {
        for (said, heard) in rows {
            ann.publish(&case.room, kind, None, said).await.unwrap();
            assert_eq!(ben.next().await.data, heard, "{kind} {said}");
        }
    }
    Outcome::Kept
}

/// Who may publish bytes does; everyone sees them alike, live and later.
async fn bytes(case: Case) -> Outcome {
    let mut ben = case.enter("ben").await;
    let writers = if case.transport.has_bytes() {
        vec![case.transport]
    } else {
        Transport::ALL.into_iter().filter(|transport| transport.has_bytes()).collect()
    };
    let mut seen = Vec::new();
    for transport in writers {
        let mut ann = Session::connect(case.doors(), transport, "ann").await;
        for (bytes, base64) in
            [(&b"\x00\xff\xfe hi"[..], "AP/+IGhp"), (b"", ""), (b"a", "YQ=="), (&[0xfb, 0xff], "+/8=")]
        {
            for kind in ["text", "signal"] {
                ann.publish_data(&case.room, kind, None, Data::Binary(bytes)).await.unwrap();
                let heard = ben.next().await;
                assert_eq!(heard.kind, kind);
                assert_eq!(heard.data, format!(r#"{{"binary":"{base64}","author":"ann"}}"#));
                if kind == "text" {
                    seen.push(heard);
                }
            }
        }
    }
    assert_eq!(ben.history(&case.room, Range::default()).await.unwrap().messages, seen);
    Outcome::Kept
}
