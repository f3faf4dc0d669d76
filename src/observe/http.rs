//! One request for one answer: what a scraper or a browser asks, decided from the bytes alone. Pure.

use super::exposition::Dialect;

/// Longest request head, and most header lines of it.
pub const HEAD_LIMIT: usize = 4096;
const HEADERS: usize = 48;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`
    Metrics(Dialect),
    /// `/status`
    Status,
    /// `/`
    Index,
}

/// A request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What.
    pub page: Page,
    /// HEAD: the head of the answer alone.
    pub head_only: bool,
}

/// An error of the client, as the status line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not HTTP.
    BadRequest,
    /// No such page.
    NotFound,
    /// Neither GET nor HEAD.
    Method,
    /// The head is too long or has too many lines.
    TooLarge,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The client took too long.
    Timeout,
}

/// What the bytes so far mean. `None`: the head is not complete.
///
/// # Errors
///
/// [`Wrong`]; the connection is closed after the answer.
pub fn read(bytes: &[u8]) -> Result<Option<Asked>, Wrong> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(Wrong::TooLarge),
        Err(httparse::Error::Version) => return Err(Wrong::Version),
        Err(_) => return Err(Wrong::BadRequest),
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Wrong::Method),
    };
    let path = request.path.unwrap_or_default();
    let page = match path.split('?').next().unwrap_or_default() {
        "/metrics" => {
            let accept = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
            let open = accept.map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase());
            Page::Metrics(
                open.map(|value| Dialect::accepted(&value))
                    .find(|d| *d == Dialect::OpenMetrics)
                    .unwrap_or(Dialect::Text),
            )
        }
        "/status" => Page::Status,
        "/" => Page::Index,
        _ => return Err(Wrong::NotFound),
    };
    Ok(Some(Asked { page, head_only }))
}

/// The whole answer. `body` is left out for HEAD, its length is told all the same.
#[must_use]
pub fn answer(status: &str, content_type: &str, body: &str, head_only: bool) -> Vec<u8> {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}\
         Connection: close\r\n\r\n",
        body.len()
    );
    if !head_only {
        answer.push_str(body);
    }
    answer.into_bytes()
}

impl Wrong {
    /// Code and words.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Wrong::BadRequest => "400 Bad Request",
            Wrong::NotFound => "404 Not Found",
            Wrong::Method => "405 Method Not Allowed",
            Wrong::Timeout => "408 Request Timeout",
            Wrong::TooLarge => "431 Request Header Fields Too Large",
            Wrong::Version => "505 HTTP Version Not Supported",
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn answer(self) -> Vec<u8> {
        let status = self.status();
        answer(status, "text/plain; charset=utf-8", &format!("{status}; there are /metrics and /status\n"), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(text: &str) -> Result<Option<Page>, Wrong> {
        read(text.as_bytes()).map(|asked| asked.map(|asked| asked.page))
    }

    #[test]
    fn what_scrapers_and_people_send_is_understood() {
        assert_eq!(page("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Ok(Some(Page::Metrics(Dialect::Text))));
        let open = "GET /metrics?x=1 HTTP/1.1\r\naccept: application/OpenMetrics-text;version=1.0.0\r\n\r\n";
        assert_eq!(page(open), Ok(Some(Page::Metrics(Dialect::OpenMetrics))));
        assert_eq!(page("GET /status HTTP/1.0\r\n\r\n"), Ok(Some(Page::Status)));
        assert_eq!(page("GET / HTTP/1.1\n\n"), Ok(Some(Page::Index)));
        assert!(read(b"HEAD /status HTTP/1.1\r\n\r\n").unwrap().unwrap().head_only);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_code() {
        assert_eq!(page("POST /status HTTP/1.1\r\n\r\n"), Err(Wrong::Method));
        assert_eq!(page("GET /etc/passwd HTTP/1.1\r\n\r\n"), Err(Wrong::NotFound));
        assert_eq!(page("GET /metrics/../status HTTP/1.1\r\n\r\n"), Err(Wrong::NotFound));
        assert_eq!(page("GET /status HTTP/2.0\r\n\r\n"), Err(Wrong::Version));
        assert_eq!(page("\x16\x03\x01\x02"), Err(Wrong::BadRequest));
        assert_eq!(page(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_LIMIT))), Err(Wrong::TooLarge));
        let many: String = (0..100).map(|n| format!("a{n}: b\r\n")).collect();
        assert_eq!(page(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(Wrong::TooLarge));
        assert!(Wrong::Method.answer().windows(6).any(|w| w == b"Allow:"));
    }

    proptest! {
        /// Pieces of a request never mean something else than the whole, and nothing makes the reader fail.
        #[test]
        fn any_bytes_have_a_meaning_and_pieces_none(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let meaning = read(&bytes);
            prop_assert!(!(bytes.len() >= HEAD_LIMIT && meaning == Ok(None)));
        }

        #[test]
        fn a_request_means_nothing_until_it_is_complete(cut in 0_usize..54) {
            let whole = b"GET /status HTTP/1.1\r\nHost: box\r\nAccept: text/html\r\n\r\n";
            prop_assert_eq!(read(&whole[..cut]), Ok(None));
            prop_assert!(read(whole).unwrap().is_some());
        }
    }
}
