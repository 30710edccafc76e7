//! How many durable 1 KiB writes a second 64 writers, and one, get through the store, against a plain write-ahead log that
//! collects the same groups and ends each with one fdatasync. Run it in the directory whose disk is in question:
//! `cargo run --release -p coracle-store --example durable`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use store::{Change, Draft, Expect, Key, Limits, Sled, Store};
use tokio::sync::{mpsc, oneshot};

const WRITERS: [usize; 2] = [64, 1];
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(".")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for writers in WRITERS {
        let (mut ours, mut plain) = (0.0, 0.0);
        for round in 0..ROUNDS {
            plain += runtime.block_on(log(&dir.path().join(format!("log-{writers}-{round}")), writers))?;
            ours += runtime.block_on(store(&dir.path().join(format!("store-{writers}-{round}")), writers))?;
        }
        let (ours, plain) = (ours / ROUNDS as f64, plain / ROUNDS as f64);
        println!("{writers} writers: write-ahead log {plain:.0}/s, store {ours:.0}/s, ratio {:.2}", ours / plain);
    }
    Ok(())
}

async fn store(dir: &Path, writers: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let store = Store::open(Sled::open(dir)?, |_, _| Ok(()), Limits::default())?;
    let rate = measure(writers, |writer| {
        let store = store.clone();
        async move {
            let mut written = 0;
            let end = Instant::now() + ROUND;
            while Instant::now() < end {
                let mut bytes = br#"{"metadata":{"resourceVersion":""},"data":""#.to_vec();
                let revision_at = 32;
                bytes.resize(1022, b'x');
                bytes.extend(b"\"}");
                let key = Key::new("/configmaps", "default", format!("w{writer}-{written}"));
                let draft = Draft { bytes, revision_at, meta: () };
                store.commit(key, Expect::Absent, Change::Put(draft)).await.ok()?;
                written += 1;
            }
            Some(written)
        }
    })
    .await?;
    store.close().await;
    Ok(rate)
}

async fn log(path: &Path, writers: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let mut file = File::create(path)?;
    let (sender, mut queue) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(1024);
    let appender = std::thread::spawn(move || -> std::io::Result<()> {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            group.extend(std::iter::from_fn(|| queue.try_recv().ok()));
            let bytes: Vec<u8> = group.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
            file.write_all(&bytes)?;
            file.sync_data()?;
            for (_, reply) in group {
                // A writer whose round is over does not wait.
                let _ = reply.send(());
            }
        }
        Ok(())
    });
    let rate = measure(writers, |_| {
        let sender = sender.clone();
        async move {
            let mut written = 0;
            let end = Instant::now() + ROUND;
            while Instant::now() < end {
                let (reply, done) = oneshot::channel();
                sender.send((vec![b'x'; 1024], reply)).await.ok()?;
                done.await.ok()?;
                written += 1;
            }
            Some(written)
        }
    })
    .await?;
    drop(sender);
    appender.join().map_err(|_| "the appender panicked")??;
    Ok(rate)
}

/// Runs the writers, and gives their writes per second.
async fn measure<F>(writers: usize, writer: impl Fn(usize) -> F) -> Result<f64, Box<dyn std::error::Error>>
where
    F: Future<Output = Option<u64>> + Send + 'static,
{
    let start = Instant::now();
    let writers: Vec<_> = (0..writers).map(|number| tokio::spawn(writer(number))).collect();
    let mut written = 0;
    for writer in writers {
        written += writer.await?.ok_or("a write failed")?;
    }
    Ok(written as f64 / start.elapsed().as_secs_f64())
}
