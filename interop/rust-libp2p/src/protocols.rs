//! What is spoken on raw streams, both ends.

use std::io;

use futures::{future::join_all, AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use sha2::{Digest, Sha256};

use crate::streams::Opener;

pub const DIGEST: &str = "/interop/digest/1.0.0";
pub const RESET: &str = "/interop/reset/1.0.0";
pub const PERF: &str = "/perf/1.0.0";
const PIECE: usize = 64 * 1024;

async fn read_all(stream: &mut Stream, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut count = 0;
    loop {
        let size = stream.read(&mut piece).await?;
        if size == 0 {
            return Ok(count);
        }
        take(&piece[..size]);
        count += size as u64;
    }
}

async fn write_zeros(stream: &mut Stream, size: u64) -> io::Result<()> {
    let piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let some = left.min(PIECE as u64);
        stream.write_all(&piece[..some as usize]).await?;
        left -= some;
    }
    stream.close().await
}

/// Answer a stream that another has opened; what is lost with it is its own affair.
pub async fn serve(secret: Vec<u8>, peer: PeerId, name: StreamProtocol, mut stream: Stream) -> io::Result<()> {
    match name.as_ref() {
        DIGEST => {
            let mut hash = Sha256::new_with_prefix(secret);
            read_all(&mut stream, |piece| hash.update(piece)).await?;
            stream.write_all(&hash.finalize()).await?;
            stream.close().await
        }
        RESET => {
            stream.read_exact(&mut [0]).await?;
            stream.write_all(&[1]).await?;
            stream.flush().await?;
            // Of yamux a reset is read as an end; only what is written afterwards fails. QUIC tells it at once.
            let reset = read_all(&mut stream, |_| ()).await.is_err() || stream.write_all(&[1]).await.is_err();
            println!("was {peer} {}", if reset { "reset" } else { "ended" });
            Ok(())
        }
        PERF => {
            let mut head = [0; 8];
            stream.read_exact(&mut head).await?;
            let received = read_all(&mut stream, |_| ()).await?;
            let wanted = u64::from_be_bytes(head);
            write_zeros(&mut stream, wanted).await?;
            println!("served-perf {peer} {received} {wanted}");
            Ok(())
        }
        _ => Ok(()), // made up: known by name only
    }
}

pub async fn perf(opener: Opener, peer: PeerId, up: u64, down: u64) -> Result<String, String> {
    let mut stream = opener.open(peer, PERF).await?;
    let run = async {
        stream.write_all(&down.to_be_bytes()).await?;
        write_zeros(&mut stream, up).await?;
        read_all(&mut stream, |_| ()).await
    };
    let received = run.await.map_err(|error: io::Error| error.to_string())?;
    Ok(format!("performed {peer} {up} {received}"))
}

pub async fn digest(opener: Opener, peer: PeerId, name: String, size: usize, count: usize) -> Result<String, String> {
    let all = (0..count).map(|index| digest_one(&opener, peer, format!("{name}-{index}"), size));
    let answers: Result<Vec<String>, String> = join_all(all).await.into_iter().collect();
    Ok(format!("digests {peer} {}", answers?.join(",")))
}

async fn digest_one(opener: &Opener, peer: PeerId, name: String, size: usize) -> Result<String, String> {
    let mut stream = opener.open(peer, DIGEST).await?;
    let mut answer = Vec::new();
    let run = async {
        for (block, begin) in (0..size).step_by(PIECE).enumerate() {
            let piece = Sha256::digest(format!("{name}/{block}")).repeat(PIECE / 32);
            stream.write_all(&piece[..PIECE.min(size - begin)]).await?;
        }
        stream.close().await?;
        stream.read_to_end(&mut answer).await
    };
    run.await.map_err(|error| error.to_string())?;
    Ok(hex::encode(answer))
}

pub async fn reset(opener: Opener, peer: PeerId) -> Result<String, String> {
    let mut stream = opener.open(peer, RESET).await?;
    let run = async {
        stream.write_all(b"x").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await
    };
    run.await.map_err(|error| error.to_string())?;
    drop(stream); // before its end: that is a reset
    Ok(format!("resetting {peer}"))
}
