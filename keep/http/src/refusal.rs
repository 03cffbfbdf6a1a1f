// SPDX-License-Identifier: Apache-2.0

//! Requests that no component sees: those that another program might read in another way, or that name nothing which a component
//! could answer for. The peer is not trusted.

use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, StatusCode, Version};

use crate::coding::{self, CodingError};
use crate::target::is_server;

/// The status of a request that no component sees; `None` for one that is in order.
pub fn refused(parts: &Parts) -> Option<StatusCode> {
    if parts.method == Method::CONNECT {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    match coding::check(&parts.headers) {
        Ok(()) if has_target(parts) && has_server(parts) => None,
        // RFC 9112, section 6.1.
        Err(CodingError::Unknown(_)) => Some(StatusCode::NOT_IMPLEMENTED),
        Ok(()) | Err(CodingError::Doubtful) => Some(StatusCode::BAD_REQUEST),
    }
}

/// True if a request has a path, or asks for the whole server by OPTIONS; a server in place of a path is for CONNECT
/// (RFC 9112, section 3.2).
fn has_target(parts: &Parts) -> bool {
    let path = parts.uri.path_and_query().map(PathAndQuery::as_str);
    path.is_some_and(|path| path != "*" || parts.method == Method::OPTIONS)
}

/// True if a request names one server, and in the way that its version has for that.
fn has_server(parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let Ok(name) = host.map(HeaderValue::to_str).transpose() else {
        return false;
    };
    let authority = parts.uri.authority().map(Authority::as_str);
    let is_http2 = parts.version == Version::HTTP_2;
    // An empty name is that of something without a server, but not in HTTP/2.
    let is_name = |name: &str| is_server(name) || name.is_empty() && !is_http2;
    second.is_none()
        && authority.is_none_or(is_server)
        && name.is_none_or(is_name)
        && match (parts.version, name) {
            // RFC 9112, section 3.2: exactly one, even with an absolute URI.
            (Version::HTTP_11, name) => name.is_some(),
            // RFC 9113, section 8.3.1: not two different names, and one if there is an authority.
            (Version::HTTP_2, Some(name)) => {
                authority.is_none_or(|it| it.eq_ignore_ascii_case(name))
            }
            (Version::HTTP_2, None) => authority.is_some(),
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use hyper::header::TRANSFER_ENCODING;

    fn get(version: Version, target: &str, hosts: &[&str]) -> u16 {
        status(version, Method::GET, target, hosts)
    }

    fn status(version: Version, method: Method, target: &str, hosts: &[&str]) -> u16 {
        let mut request = Request::builder()
            .version(version)
            .method(method)
            .uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        refused(&parts).map_or(200, |status| status.as_u16())
    }

    #[test]
    fn a_request_names_one_server() {
        for host in [
            "test",
            "test:80",
            "test:",
            "[::1]:80",
            "my_service",
            "192.0.2.1",
            "",
        ] {
            assert_eq!(get(Version::HTTP_11, "/", &[host]), 200, "{host:?}");
        }
        for host in [
            "a b",
            "a/b",
            "user@test",
            "test:x",
            "test:99999",
            "[::1",
            "a?b",
            "a#b",
            "a\tb",
            "a\"b",
            "test::",
            "::1",
        ] {
            assert_eq!(get(Version::HTTP_11, "/", &[host]), 400, "{host:?}");
            assert_eq!(get(Version::HTTP_10, "/", &[host]), 400, "{host:?}");
            assert_eq!(get(Version::HTTP_2, "/", &[host]), 400, "{host:?}");
        }
        assert_eq!(get(Version::HTTP_11, "/", &[]), 400);
        assert_eq!(get(Version::HTTP_10, "/", &[]), 200);
        assert_eq!(get(Version::HTTP_11, "/", &["test", "test"]), 400);
        // A whole URI counts more than the field, and has no user.
        assert_eq!(get(Version::HTTP_11, "http://one/", &["two"]), 200);
        assert_eq!(get(Version::HTTP_11, "http://me@one/", &["one"]), 400);
        assert_eq!(get(Version::HTTP_2, "http://one/", &[]), 200);
        assert_eq!(get(Version::HTTP_2, "http://me:word@one/", &[]), 400);
        assert_eq!(get(Version::HTTP_2, "http://one/", &["ONE"]), 200);
        assert_eq!(get(Version::HTTP_2, "http://one/", &["two"]), 400);
        assert_eq!(get(Version::HTTP_2, "/", &[]), 400);
        assert_eq!(get(Version::HTTP_2, "/", &[""]), 400);
    }

    #[test]
    fn a_request_asks_for_a_path_or_for_the_whole_server() {
        let of = |method, target| status(Version::HTTP_11, method, target, &["test"]);
        assert_eq!(of(Method::GET, "/a?b"), 200);
        assert_eq!(of(Method::GET, "http://test"), 200);
        assert_eq!(of(Method::GET, "test:80"), 400);
        assert_eq!(of(Method::GET, "test"), 400);
        assert_eq!(of(Method::GET, "*"), 400);
        assert_eq!(of(Method::OPTIONS, "*"), 200);
        assert_eq!(of(Method::CONNECT, "test:80"), 501);
    }

    #[test]
    fn an_unknown_transfer_coding_is_not_implemented() {
        for (coding, expected) in [("chunked", 200), ("gzip, chunked", 501), (", chunked", 400)] {
            let request = Request::post("/")
                .header(HOST, "test")
                .header(TRANSFER_ENCODING, coding);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let status = refused(&parts).map_or(200, |status| status.as_u16());
            assert_eq!(status, expected, "{coding}");
        }
    }
}
