use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::meter::{Histogram, Meter, Sample};

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Time(Duration),
    Count(u64),
}

/// Lets every client ask again as soon as it is answered. A client is given a number that no other request of the load
/// has, from `first` on, and says how many bytes came.
pub(crate) async fn load<F>(clients: Vec<F>, pids: &[u32], first: u64, until: Until) -> anyhow::Result<Sample>
where
    F: AsyncFnMut(u64) -> anyhow::Result<usize>,
{
    let (histogram, bytes, next) = (RefCell::new(Histogram::new()), Cell::new(0), Cell::new(first));
    let meter = Meter::start(pids)?;
    let began = Instant::now();
    let run = async |mut client: F| {
        loop {
            let number = next.get();
            let asked = Instant::now();
            if match until {
                Until::Time(limit) => asked - began >= limit,
                Until::Count(count) => number >= first + count,
            } {
                return anyhow::Ok(());
            }
            next.set(number + 1);
            let size = client(number).await?;
            histogram.borrow_mut().add(asked.elapsed());
            bytes.set(bytes.get() + size as u64);
        }
    };
    try_join_all(clients.into_iter().map(run)).await?;
    let bytes = bytes.get();
    meter.stop(histogram.into_inner(), bytes)
}
