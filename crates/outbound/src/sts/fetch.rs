//! One policy file over HTTPS (RFC 8461 §3.3): verified, small, without redirects.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{Either, select};
use galerne_core::tls_policy::Proof;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::Means;
use crate::connection::plain;
use crate::dial::{BoxStream, Dial};
use crate::tls_counts::Failure;

/// Octets of a policy at most.
const LARGEST: usize = 64 * 1024;
/// Octets of a reply's header at most.
const HEADER: usize = 16 * 1024;
/// Addresses of a policy host that are tried.
const ADDRESSES: usize = 3;
/// Time for TCP and TLS with one address.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// What failed, and why in words.
pub type Trouble = (Failure, String);

/// The text of the policy of a domain.
///
/// # Errors
/// There is none that counts.
pub async fn fetch(domain: &str, means: &Means, dial: &dyn Dial) -> Result<String, Trouble> {
    let host = format!("mta-sts.{domain}");
    let found = means.resolver.addresses(&host).await;
    let found = found.map_err(|e| failed(format!("{host}: {e}")))?;
    let own = means.settings.own();
    let usable = found.addresses.into_iter().filter(|a| own.allows(*a));
    fetch_from(&host, usable.collect(), means, dial).await
}

/// The text of the policy that a host has, by the first of its addresses that can be used.
///
/// # Errors
/// There is none that counts.
pub async fn fetch_from(
    host: &str,
    addresses: Vec<IpAddr>,
    means: &Means,
    dial: &dyn Dial,
) -> Result<String, Trouble> {
    let mut last = failed(format!("{host} has no address that may be contacted"));
    for address in addresses.into_iter().take(ADDRESSES) {
        match connect(host, address, means, dial).await {
            Ok(stream) => return request(host, stream).await,
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

async fn connect(
    host: &str,
    address: IpAddr,
    means: &Means,
    dial: &dyn Dial,
) -> Result<BoxStream, Trouble> {
    let outbounds = means.settings.outbounds.iter().map(|o| o.address);
    let mut same = outbounds.filter(|local| local.is_ipv4() == address.is_ipv4());
    let local = same
        .next()
        .ok_or_else(|| failed(format!("no outbound address can reach {address}")))?;
    let remote = SocketAddr::new(address, means.settings.rfmta.mtastsport);
    let deadline = Instant::now() + CONNECT_TIME;
    let stream = match timeout(CONNECT_TIME, dial.dial(local, remote)).await {
        Err(_) => return Err(failed(format!("{host}: timed out"))),
        Ok(Err(error)) => return Err(failed(format!("{host}: {}", plain(&error)))),
        Ok(Ok(stream)) => stream,
    };
    let (tls, proof) = (&means.tls, Proof::Authority);
    let made = tls.handshake(stream, &proof, (host, address), false, deadline);
    match made.await {
        Ok(encrypted) => Ok(encrypted.stream),
        Err(trouble) => Err((
            Failure::StsWebpkiInvalid,
            format!("{host}: {}", trouble.why),
        )),
    }
}

async fn request(host: &str, stream: BoxStream) -> Result<String, Trouble> {
    let says = |error: hyper::Error| failed(format!("{host}: {error}"));
    let mut protocol = http1::Builder::new();
    protocol.max_buf_size(HEADER).max_headers(100);
    let made = protocol.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = made.map_err(says)?;
    let request = Request::get("/.well-known/mta-sts.txt")
        .header(HOST, host)
        .header(USER_AGENT, "galerne")
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(e.to_string()))?;
    let exchange = Box::pin(async move {
        let response = sender.send_request(request).await.map_err(says)?;
        read(host, response).await
    });
    match select(exchange, connection).await {
        Either::Left((read, _)) => read,
        // What came before the connection closed is still to be read.
        Either::Right((_, exchange)) => exchange.await,
    }
}

/// The body, if the reply is one that counts: a redirect does not (RFC 8461 §3.3).
async fn read(host: &str, response: Response<Incoming>) -> Result<String, Trouble> {
    if response.status() != StatusCode::OK {
        return Err(failed(format!("{host} says {}", response.status())));
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("text/plain") {
        return Err(failed(format!("{host}: the policy is not text/plain")));
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|e| failed(format!("{host}: {e}")))?;
    let text = String::from_utf8(body.to_bytes().to_vec());
    text.map_err(|_| (Failure::StsPolicyInvalid, format!("{host}: not UTF-8")))
}

fn failed(why: String) -> Trouble {
    (Failure::StsPolicyFetchError, why)
}
