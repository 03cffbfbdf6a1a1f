// SPDX-License-Identifier: Apache-2.0

//! Getting URLs, and waiting when a service asks to. The answers are hostile until the verifier has checked them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use ureq::tls::TlsConfig;

/// Bytes of the largest answer.
const MAX_LEN: u64 = 16 << 20;

/// Why a URL could not be got.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer.
    #[error("{url}: {cause}")]
    Transport {
        /// The URL.
        url: String,
        /// The cause.
        cause: String,
    },
    /// An answer that is not the document.
    #[error("{url}: the service answered {status}{}", remedy(*status))]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
}

fn remedy(status: u16) -> &'static str {
    match status {
        404 => " (the report names another TCB version or chip than the service knows)",
        429 => " (too many requests; try again later)",
        _ => "",
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header field with this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Gets URLs and waits; the tests have one without a network.
pub trait Http {
    /// Gets a URL. A status other than success is an answer, not an error.
    ///
    /// # Errors
    /// When there is no answer.
    fn get(&mut self, url: &str) -> Result<Response, HttpError>;

    /// Waits.
    fn wait(&mut self, time: Duration);
}

/// The network.
#[derive(Debug)]
pub struct Web {
    agent: ureq::Agent,
}

impl Web {
    /// The network, spoken to by TLS with this provider of cryptography, and by web authorities' certificates.
    #[must_use]
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .tls_config(
                TlsConfig::builder()
                    .unversioned_rustls_crypto_provider(provider)
                    .build(),
            )
            .build();
        Self {
            agent: config.new_agent(),
        }
    }
}

impl Http for Web {
    fn get(&mut self, url: &str) -> Result<Response, HttpError> {
        let error = |e: ureq::Error| HttpError::Transport {
            url: url.to_owned(),
            cause: e.to_string(),
        };
        let mut answer = self.agent.get(url).call().map_err(error)?;
        let headers = answer
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((
                    name.as_str().to_lowercase(),
                    value.to_str().ok()?.to_owned(),
                ))
            })
            .collect();
        let status = answer.status().as_u16();
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_LEN)
            .read_to_vec()
            .map_err(error)?;
        Ok(Response {
            status,
            headers,
            body,
        })
    }

    fn wait(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

/// Number of attempts for a URL while the service asks to wait.
const TRIES: u32 = 4;
/// Longest wait that is accepted; if a service asks for more, the request fails.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// Wait when the service does not say how long; doubled each time. AMD's service allows a request in ten seconds.
const WAIT: Duration = Duration::from_secs(10);

/// Gets a document, with as much patience as the service asks for (statuses 429 and 503, Retry-After in seconds).
pub(crate) fn get(http: &mut impl Http, url: &str) -> Result<Response, HttpError> {
    let mut wait = WAIT;
    for left in (0..TRIES).rev() {
        tracing::info!("asking for {url}");
        let response = http.get(url)?;
        tracing::debug!(
            status = response.status,
            bytes = response.body.len(),
            "answer of {url}"
        );
        match response.status {
            200 => return Ok(response),
            429 | 503 if left > 0 => {
                let asked = response
                    .header("retry-after")
                    .and_then(|v| v.trim().parse().ok());
                let time = asked.map_or(wait, Duration::from_secs);
                if time > LONGEST_WAIT {
                    return Err(HttpError::Status {
                        url: url.to_owned(),
                        status: response.status,
                    });
                }
                tracing::info!("the service asks to wait {} s", time.as_secs());
                http.wait(time);
                wait *= 2;
            }
            status => {
                return Err(HttpError::Status {
                    url: url.to_owned(),
                    status,
                });
            }
        }
    }
    Err(HttpError::Status {
        url: url.to_owned(),
        status: 429,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_network_is_used_with_tls() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut begin = [0; 2];
            peer.read_exact(&mut begin).unwrap();
            begin
        });
        // The peer says nothing.
        assert!(matches!(
            Web::new(enarx_tls::provider()).get(&url),
            Err(HttpError::Transport { .. })
        ));
        // A handshake, TLS 1 in its major version (RFC 8446, section 5.1).
        assert_eq!(server.join().unwrap(), [22, 3]);
    }

    #[test]
    fn nothing_is_requested_in_clear() {
        let refused = Web::new(enarx_tls::provider()).get("http://127.0.0.1:1/");
        assert!(matches!(refused, Err(HttpError::Transport { .. })));
    }
}
