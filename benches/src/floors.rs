//! The floors of our own: what hyper alone costs, with the settings of the sidecar's listener.
#![expect(clippy::print_stdout, reason = "a child tells its parent the address")]

pub(crate) mod bare;
pub(crate) mod proxy;

use std::{net::Ipv4Addr, time::Duration};

use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::HttpService,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{
    Fault,
    child::{input_end, on_runtime},
};

/// The settings of a connection, those of the sidecar's own listener.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Serves `service` at a free port until the input ends.
fn serve<S>(workers: usize, service: S) -> Result<(), Fault>
where
    S: HttpService<Incoming> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Fault>,
    S::ResBody: Send + 'static,
    <S::ResBody as Body>::Data: Send,
    <S::ResBody as Body>::Error: Into<Fault>,
{
    let accepting = async |listener: TcpListener| -> Result<(), Fault> {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service.clone());
            tokio::spawn(connection);
        }
    };
    on_runtime(workers, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        tokio::select! {
            served = accepting(listener) => served,
            () = input_end() => Ok(()),
        }
    })
}
