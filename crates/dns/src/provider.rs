//! Connections to name servers that ask for the AD bit: "tell me whether you validated this"
//! (RFC 6840 §5.7). hickory-resolver asks for it only where it validates itself.

use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle};
use hickory_resolver::proto::op::DnsRequest;
use hickory_resolver::{ConnectionProvider, PoolContext};

/// Makes the connections; `ask` says whether their queries carry the AD bit.
#[derive(Clone)]
pub struct Provider {
    pub inner: TokioRuntimeProvider,
    pub ask: bool,
}

/// A connection to a name server.
#[derive(Clone)]
pub struct Asking {
    inner: DnsExchange<TokioRuntimeProvider>,
    ask: bool,
}

impl ConnectionProvider for Provider {
    type Conn = Asking;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Asking, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let connecting = self.inner.new_connection(ip, config, context)?;
        let ask = self.ask;
        Ok(Box::pin(async move {
            let inner = connecting.await?;
            Ok(Asking { inner, ask })
        }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.inner
    }
}

impl DnsHandle for Asking {
    type Response = <DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        request.metadata.authentic_data |= self.ask;
        self.inner.send(request)
    }
}
