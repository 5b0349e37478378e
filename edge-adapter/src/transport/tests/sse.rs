//! Streams of events at the door: who may have one, and what those are told who may not.
use crate::config::Config;
use crate::transport::testing::{Edge, config};

/// On loopback a name that anybody could have turned here opens nothing: a page of that name is of the same origin as what answers, and
/// says of itself nothing at all.
#[tokio::test]
async fn a_page_of_a_strange_name_reads_nothing() {
    let edge = Edge::start(Config { local_hosts_only: true, ..config() }).await;
    for path in ["/events/r", "/poll/r"] {
        for host in ["evil.test", "localhost.evil.test:8080"] {
            // `Host: edge.test` stands in the helper's head, so this names the host in the URI, which goes before it.
            let answer = edge.ask(&format!("GET http://{host}{path} HTTP/1.1"), &[]).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (403, "permission_denied"),
                "{host}{path}"
            );
        }
    }
    assert!(edge.asked().is_empty());
    let answer = edge.ask("GET http://localhost:8080/events/r HTTP/1.1", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
}
