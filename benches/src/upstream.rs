//! An upstream that costs little: it answers from memory, on one thread, and does as much of the API as the sidecar
//! needs. It mints rising task ids and keeps a true list of running jobs, with their marks.
#![expect(clippy::print_stdout, reason = "a child tells its parent the address")]

mod book;

use std::{cell::RefCell, io, net::Ipv4Addr, rc::Rc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    task::LocalSet,
};

use crate::{
    Fault,
    child::{Server, input_end},
    wire::measure,
};
use book::Book;

/// More than any request of ours.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The arguments of the process.
#[derive(Debug, clap::Args)]
pub(crate) struct Upstream {
    #[arg(long)]
    accounts: u32,
    /// Slots of each account
    #[arg(long)]
    slots: u32,
}

/// Starts one with so many accounts, and slots on each.
pub(crate) fn start(accounts: u32, slots: u32) -> Result<Server, Fault> {
    let (accounts, slots) = (accounts.to_string(), slots.to_string());
    let args = ["--accounts", &accounts, "--slots", &slots];
    Server::own("serve-upstream", &args)
}

/// Runs it until the input ends.
pub(crate) fn run(upstream: &Upstream) -> Result<(), Fault> {
    let book = Rc::new(RefCell::new(Book::new(upstream.accounts, upstream.slots)));
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        let accepting = async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::task::spawn_local(converse(stream, Rc::clone(&book)));
            }
        };
        tokio::select! {
            ended = accepting => ended,
            () = input_end() => Ok(()),
        }
    })
}

/// Answers the requests of a connection until it ends.
async fn converse(mut stream: TcpStream, book: Rc<RefCell<Book>>) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    let (mut filled, mut out) = (0, Vec::new());
    loop {
        if filled == buffer.len() {
            if filled >= REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            buffer.resize(2 * filled, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut used = 0;
        while let Some((head_bytes, body_bytes)) = measure(&buffer[used..filled])? {
            let bytes = head_bytes + body_bytes;
            if filled - used < bytes {
                break;
            }
            let (head, body) = buffer[used..used + bytes].split_at(head_bytes);
            book.borrow_mut().answer(head, body, &mut out);
            used += bytes;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}
