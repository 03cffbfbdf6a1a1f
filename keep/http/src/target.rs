// SPDX-License-Identifier: Apache-2.0

//! The method of a request and its target: as hyper has them, and as front ends name them. The component is not trusted.

use std::borrow::Cow;

use enarx_wasi::budget::{Allowance, Full, Holding};
use hyper::Method as HttpMethod;
use hyper::http::uri::{Authority, PathAndQuery, Scheme as UriScheme};

/// The method of a request that a component makes, and its target (RFC 9110, section 7.1).
#[derive(Default)]
pub struct Target {
    /// The method; GET if nothing is said.
    pub method: HttpMethod,
    /// The scheme.
    pub scheme: Option<UriScheme>,
    /// The server.
    pub authority: Option<String>,
    /// The path and query.
    pub path: Option<String>,
    /// The memory for the parts that the component has set.
    pub memory: Option<Holding>,
}

impl Target {
    /// Counts what the component has set.
    ///
    /// # Errors
    /// [`Full`].
    pub fn charge(&mut self, allowance: &Allowance) -> Result<(), Full> {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bytes = self.method.as_str().len() + length(&self.authority) + length(&self.path);
        match &mut self.memory {
            Some(memory) => memory.resize(bytes as u64),
            none => {
                *none = Some(allowance.take(bytes as u64)?);
                Ok(())
            }
        }
    }

    /// Sets the path and query; an empty path is that of the root (RFC 9110, section 4.2.3).
    ///
    /// # Errors
    /// If it is not valid.
    pub fn set_path(&mut self, path: Option<String>) -> Result<(), ()> {
        let path = path.map(|path| if path.is_empty() { "/".into() } else { path });
        if path.as_deref().is_some_and(|path| !is_path(path)) {
            return Err(());
        }
        self.path = path;
        Ok(())
    }

    /// Sets the server.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn set_authority(&mut self, authority: Option<String>) -> Result<(), ()> {
        if authority.as_deref().is_some_and(|name| !is_authority(name)) {
            return Err(());
        }
        self.authority = authority;
        Ok(())
    }
}

/// True for a path and query (RFC 3986, section 3.3), also a relative one.
fn is_path(path: &str) -> bool {
    let relative = !path.starts_with(['/', '?']);
    // A scheme would name another server, and an asterisk the server itself (RFC 9112, section 3.2.4).
    let first = path.split(['/', '?']).next().unwrap_or_default();
    if relative && (first.contains(':') || path == "*") {
        return false;
    }
    PathAndQuery::try_from(&*absolute(path)).is_ok()
}

/// The path as in a request: a relative one is relative to the root.
pub fn absolute(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') {
        path.into()
    } else {
        format!("/{path}").into()
    }
}

/// True for the name of a server, with or without the number of a port.
fn is_authority(name: &str) -> bool {
    Authority::try_from(name).is_ok_and(|authority| {
        server_of(name) == authority.host() || authority.port_u16().is_some()
    })
}

/// The server in an authority, without a user name before it: neither version of HTTP sends that (RFC 9110, section
/// 4.2.4).
pub fn server_of(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, server)| server)
}

/// True for a server as a request names it: without a user, and perhaps with a port, which may be only the colon
/// (RFC 3986, section 3.2.3).
pub fn is_server(name: &str) -> bool {
    server_of(name) == name && is_authority(name.strip_suffix(':').unwrap_or(name))
}

/// The method as a front end has it, whose type this is.
macro_rules! method_of {
    ($method:expr, $Method:ident) => {
        match *$method {
            HttpMethod::GET => $Method::Get,
            HttpMethod::HEAD => $Method::Head,
            HttpMethod::POST => $Method::Post,
            HttpMethod::PUT => $Method::Put,
            HttpMethod::DELETE => $Method::Delete,
            HttpMethod::CONNECT => $Method::Connect,
            HttpMethod::OPTIONS => $Method::Options,
            HttpMethod::TRACE => $Method::Trace,
            HttpMethod::PATCH => $Method::Patch,
            _ => $Method::Other($method.as_str().to_owned()),
        }
    };
}

/// The method that a component names in the type of its front end; `None` if it is not valid.
macro_rules! http_method {
    ($method:expr, $Method:ident) => {
        match $method {
            $Method::Get => Some(HttpMethod::GET),
            $Method::Head => Some(HttpMethod::HEAD),
            $Method::Post => Some(HttpMethod::POST),
            $Method::Put => Some(HttpMethod::PUT),
            $Method::Delete => Some(HttpMethod::DELETE),
            $Method::Connect => Some(HttpMethod::CONNECT),
            $Method::Options => Some(HttpMethod::OPTIONS),
            $Method::Trace => Some(HttpMethod::TRACE),
            $Method::Patch => Some(HttpMethod::PATCH),
            $Method::Other(name) => HttpMethod::from_bytes(name.as_bytes()).ok(),
        }
    };
}

/// The scheme as a front end has it, whose type this is.
macro_rules! scheme_of {
    ($scheme:expr, $Scheme:ident) => {
        match $scheme {
            scheme if *scheme == UriScheme::HTTP => $Scheme::Http,
            scheme if *scheme == UriScheme::HTTPS => $Scheme::Https,
            scheme => $Scheme::Other(scheme.as_str().to_owned()),
        }
    };
}

/// The scheme that a component names in the type of its front end; `None` if it is not valid.
macro_rules! uri_scheme {
    ($scheme:expr, $Scheme:ident) => {
        match $scheme {
            $Scheme::Http => Some(UriScheme::HTTP),
            $Scheme::Https => Some(UriScheme::HTTPS),
            $Scheme::Other(name) => UriScheme::try_from(name.as_str()).ok(),
        }
    };
}

pub(crate) use {http_method, method_of, scheme_of, uri_scheme};

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_wasi::budget::Budget;

    #[test]
    fn a_path_cannot_name_another_server() {
        let mut target = Target::default();
        for (path, kept) in [
            ("", "/"),
            ("/a?b", "/a?b"),
            ("?a", "?a"),
            ("a/b", "a/b"),
            ("../..", "../.."),
            ("//a", "//a"),
        ] {
            target.set_path(Some(path.to_owned())).unwrap();
            assert_eq!(target.path.as_deref(), Some(kept), "{path}");
        }
        for (path, sent) in [("/a", "/a"), ("a/b", "/a/b"), ("?a", "/?a"), ("//a", "//a")] {
            assert_eq!(absolute(path), sent);
        }
        for path in ["*", "http://other/", "a:b", "/ ", "a b"] {
            assert!(target.set_path(Some(path.to_owned())).is_err(), "{path}");
        }
        assert_eq!(target.path.as_deref(), Some("//a"));
        target.set_path(None).unwrap();
        assert_eq!(target.path, None);
    }

    #[test]
    fn the_port_of_a_server_name_is_a_number_or_missing() {
        for name in [
            "example.org",
            "example.org:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "user@example.org",
            "user:word@example.org:8080",
        ] {
            assert!(is_authority(name), "{name}");
        }
        for name in [
            "",
            "example.org:",
            "example.org:http",
            "example.org:99999",
            "[::1]:",
            "a b",
            "a/b",
        ] {
            assert!(!is_authority(name), "{name}");
        }
    }

    #[test]
    fn the_names_of_a_target_take_memory_until_it_has_gone() {
        let allowance = Allowance::new(&Budget::new(1000), 100);
        let mut target = Target::default();
        let host = |length| Some("a".repeat(length));
        target.set_authority(host(80)).unwrap();
        target.charge(&allowance).unwrap();
        target.set_authority(host(97)).unwrap();
        target.charge(&allowance).unwrap();
        target.set_path(Some("/path".to_owned())).unwrap();
        assert_eq!(target.charge(&allowance), Err(Full::Allowance(100)));
        target.set_authority(None).unwrap();
        target.charge(&allowance).unwrap();
        drop(target);
        assert!(allowance.take(100).is_ok());
    }
}
