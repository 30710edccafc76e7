//! Requests made up by chance, good and bad, of many clients over the same connections to endpoints of moods: every
//! answer belongs to its request.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::message::{Message, Raw};
use crate::world::{PATIENCE, World, endpoint};

/// Numbers that look like chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What an endpoint says to a request, in the mood that the request's id asks for, and whether it stays.
async fn moody(stream: &mut BufReader<TcpStream>, request: &Message) -> bool {
    let id = request.header("x-id").unwrap_or("0").to_owned();
    let body = match request.start.starts_with("HEAD ") {
        true => String::new(),
        false => format!("{id} {}", String::from_utf8_lossy(&request.body)),
    };
    let plain = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nx-id: {id}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let mut chance = Chance(id.parse().unwrap());
    let mood = chance.below(16);
    let text = match mood {
        0 if !body.is_empty() => chunked,
        1 => format!("HTTP/1.1 103 Early Hints\r\nx-id: wrong\r\n\r\n{plain}"),
        2 => format!("{plain}HTTP/1.1 200 OK\r\nx-id: wrong\r\ncontent-length: 5\r\n\r\nwrong"),
        3 => plain.replace("x-id", "connection: close\r\nx-id"),
        4 => plain[..plain.len() / 2].to_owned(),
        5 => String::new(),
        _ => plain,
    };
    let cut = chance.below(text.len() as u64 + 1) as usize;
    for part in [&text[..cut], &text[cut..]] {
        if stream.write_all(part.as_bytes()).await.is_err() {
            return false;
        }
        if mood == 6 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    !(2..=5).contains(&mood)
}

/// A request with this id, and whether it is good.
fn made(id: u64, chance: &mut Chance) -> (String, bool, bool) {
    let body = format!("body of {id} {}", "x".repeat(chance.below(3000) as usize));
    let head = format!("/ HTTP/1.1\r\nhost: app.com\r\nx-id: {id}\r\n");
    let cut = chance.below(body.len() as u64 - 1) as usize + 1;
    let (first, second) = body.split_at(cut);
    match chance.below(24) {
        0..8 => (format!("GET {head}\r\n"), true, false),
        8..14 => (format!("POST {head}content-length: {}\r\n\r\n{body}", body.len()), true, false),
        14..18 => {
            let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
            (format!("POST {head}transfer-encoding: chunked\r\n\r\n{}", chunks), true, false)
        }
        18..21 => (format!("HEAD {head}\r\n"), true, true),
        21 => (format!("POST {head}content-length: x\r\n\r\n{body}"), false, false),
        22 => (format!("POST {head}transfer-encoding: chunked\r\n\r\n{first}"), false, false),
        _ => (format!("GET {head}x y: z\r\n\r\n"), false, false),
    }
}

/// Sends some requests at once, and returns how many were answered by the endpoint.
async fn visit(world: &World, first: u64, chance: &mut Chance) -> usize {
    let mut client = Raw::connect(world.at).await;
    let requests: Vec<_> =
        (0..1 + chance.below(8)).map(|number| (first + number, made(first + number, chance))).collect();
    let all: String = requests.iter().map(|(_, (text, ..))| text.as_str()).collect();
    let leaves = chance.below(8) == 0;
    client.send(if leaves { &all[..chance.below(all.len() as u64) as usize] } else { &all }).await;
    let mut answered = 0;
    for (id, (text, good, head)) in &requests {
        if leaves && chance.below(2) == 0 {
            return answered;
        }
        let patience = if leaves { Duration::from_millis(100) } else { PATIENCE };
        let answer = match timeout(patience, Message::answer(&mut client.stream, *head)).await {
            Ok(Ok(Some(answer))) => answer,
            // It broke off, in the middle or before; nothing comes any more.
            Ok(Ok(None) | Err(_)) => return answered,
            Err(_) if leaves => return answered,
            Err(_) => panic!("no answer to {text:?}"),
        };
        if answer.status() != 200 {
            assert!(matches!(answer.status(), 400 | 502 | 504), "{answer:?} to {text:?}");
            continue;
        }
        answered += 1;
        assert!(good, "{answer:?} to {text:?}");
        assert_eq!(answer.header("x-id"), Some(&*id.to_string()), "to {text:?}");
        if !head {
            assert!(answer.text().starts_with(&format!("{id} ")), "{answer:?} to {text:?}");
            let sent = text.contains("body of").then(|| format!("body of {id} "));
            assert!(answer.text().contains(&sent.unwrap_or_default()), "{answer:?} to {text:?}");
        }
    }
    answered
}

#[tokio::test]
async fn every_answer_belongs_to_its_request() {
    const CLIENTS: u64 = 12;
    const VISITS: u64 = 40;
    for seed in [1, 2, 3] {
        let moods = |stream: TcpStream, _| async move {
            stream.set_nodelay(true).unwrap();
            let mut stream = BufReader::new(stream);
            while let Ok(Some(request)) = Message::request(&mut stream).await {
                if !moody(&mut stream, &request).await {
                    return;
                }
            }
        };
        let world = World::hasty(vec![endpoint(moods).await, endpoint(moods).await]);
        let clients = (0..CLIENTS).map(async |client| {
            let mut chance = Chance(seed * 1000 + client);
            let mut answered = 0;
            for visit_number in 0..VISITS {
                answered += visit(&world, (client * VISITS + visit_number) * 10, &mut chance).await;
            }
            answered
        });
        let answered: usize = futures::future::join_all(clients).await.into_iter().sum();
        println!("seed {seed}: {answered} answers");
        assert!(answered > 400, "seed {seed}: only {answered} answers");
    }
}
