use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::time::sleep;

use super::*;
use crate::corefile;
use crate::fixture;
use crate::metrics::Exposition;
use crate::question::UDP_SIZE;
use crate::request::Sections;
use crate::servers::Servers;

/// A cache, and what is behind it.
struct Bed {
    cache: Arc<Cache>,
    next: Next,
    /// What the next question gets, see [`answer`].
    script: Arc<Mutex<&'static str>>,
    /// The questions that came through.
    asked: Arc<Mutex<Vec<Request>>>,
    servers: Arc<Servers>,
}

impl Bed {
    /// With these lines in the directive.
    fn new(lines: &str) -> Self {
        let blocks = corefile::parse(&format!(".:53 {{\n cache {{\n{lines}\n}}\n}}\n")).unwrap();
        let settings = settings::read(&blocks[0].directives[0], &blocks[0]).unwrap();
        let (script, asked) = (Arc::<Mutex<&'static str>>::default(), Arc::<Mutex<Vec<Request>>>::default());
        let (now, seen) = (script.clone(), asked.clone());
        let next = Next::new(tower::service_fn(move |request: Request| {
            seen.lock().unwrap().push(request.clone());
            answer(*now.lock().unwrap(), request)
        }));
        let servers = Arc::new(fixture::servers("", fixture::cluster().snapshot()));
        Bed { cache: Arc::new(Cache::new(settings)), next, script, asked, servers }
    }

    fn request(&self, name: &str) -> Request {
        fixture::request(name, RecordType::A, &self.servers)
    }

    /// Asks as a client does: the quick way, then the chain.
    async fn ask(&self, request: &Request) -> Result<Message, Failure> {
        let (packet, mut out) = (request.question().to_vec().unwrap(), [0; UDP_SIZE]);
        let quick = self.cache.reply(&Question::parse(&packet).unwrap(), &mut out, 0, Instant::now());
        if let Some(length) = quick {
            return Ok(Message::from_vec(&out[..length]).unwrap());
        }
        match self.cache.clone().handle(request.clone(), self.next.clone()).await?.body {
            Body::Message(message) => Ok(*message),
            _ => panic!("silence"),
        }
    }

    /// Asks for `a.` after some milliseconds; (what comes, the questions that came through so far).
    async fn step(&self, wait: u64, script: &'static str) -> (String, usize) {
        sleep(Duration::from_millis(wait)).await;
        *self.script.lock().unwrap() = script;
        let got = match self.ask(&self.request("a.")).await {
            Ok(message) => said(&message),
            Err(_) => "down".into(),
        };
        // The clock moves only when there is nothing else to do.
        sleep(Duration::from_millis(1)).await;
        (got, self.asked.lock().unwrap().len())
    }
}

/// What is behind the cache: `N TTL` is an address, `nx TTL`, `servfail`, `down`, `other` an answer to
/// another question, `cluster` an address of TTL 7 by the cluster; after milliseconds if `wait MS` is ahead.
async fn answer(script: &'static str, request: Request) -> Result<Reply, Failure> {
    let words: Vec<&str> = script.split(' ').collect();
    let words = match &words[..] {
        ["wait", time, rest @ ..] => {
            sleep(Duration::from_millis(time.parse().unwrap())).await;
            rest
        }
        words => words,
    };
    let (mut plugin, mut sections, mut code) = ("forward", Sections::default(), ResponseCode::NoError);
    let mut address = |last: u8, ttl: &str| {
        let data = RData::A(A::new(192, 0, 2, last));
        sections.answers.push(Record::from_rdata(request.name().clone(), ttl.parse().unwrap(), data));
    };
    match words {
        ["down"] => return Err(Failure::server("down")),
        ["servfail"] => code = ResponseCode::ServFail,
        ["nx", ttl] => {
            code = ResponseCode::NXDomain;
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 86400);
            sections.authorities.push(Record::from_rdata(Name::root(), ttl.parse().unwrap(), RData::SOA(soa)));
        }
        ["cluster"] => {
            plugin = kubernetes::NAME;
            address(9, "7");
        }
        ["other"] => address(8, "60"),
        [last, ttl] => address(last.parse().unwrap(), ttl),
        _ => panic!("script {script:?}"),
    }
    let mut message = request.reply(code, false, sections);
    message.metadata.authentic_data = true;
    if words == ["other"] {
        message.queries[0].name = Name::from_ascii("b.").unwrap();
    }
    Ok(Reply::message(plugin, message))
}

/// An answer in the words of the script.
fn said(message: &Message) -> String {
    match (message.metadata.response_code, message.all_sections().next()) {
        (ResponseCode::NXDomain, Some(soa)) => format!("nx {}", soa.ttl),
        (ResponseCode::NoError, Some(Record { data: RData::A(address), ttl, .. })) => {
            format!("{} {ttl}", address.0.octets()[3])
        }
        (ResponseCode::ServFail, None) => "servfail".into(),
        other => panic!("{other:?}"),
    }
}

/// (milliseconds to wait, what is behind the cache, what the client gets, questions that came through)
type Step = (u64, &'static str, &'static str, usize);

async fn play(lines: &str, steps: &[Step]) -> Bed {
    let bed = Bed::new(lines);
    for (index, (wait, script, expected, asked)) in steps.iter().enumerate() {
        let got = bed.step(*wait, script).await;
        assert_eq!(got, (expected.to_string(), *asked), "{lines}: step {index}");
    }
    bed
}

#[tokio::test(start_paused = true)]
async fn answers_live_as_long_as_they_say() {
    let table: [(&str, &[Step]); 10] = [
        (
            "",
            &[
                (0, "1 60", "1 60", 1),
                (20_000, "2 60", "1 40", 1),
                (39_000, "2 60", "1 1", 1),
                (1_000, "2 60", "2 60", 2),
            ],
        ),
        ("success 1 30 10", &[(0, "1 60", "1 30", 1), (30_000, "2 5", "2 10", 2), (9_000, "3 5", "2 1", 2)]),
        ("", &[(0, "nx 30", "nx 30", 1), (29_000, "1 60", "nx 1", 1), (1_000, "1 60", "1 60", 2)]),
        ("denial 1 20 10", &[(0, "nx 30", "nx 20", 1), (20_000, "nx 1", "nx 10", 2), (9_000, "1 60", "nx 1", 2)]),
        ("", &[(0, "servfail", "servfail", 1), (4_000, "1 60", "servfail", 1), (1_000, "1 60", "1 60", 2)]),
        ("servfail 0", &[(0, "servfail", "servfail", 1), (0, "1 60", "1 60", 2)]),
        ("", &[(0, "down", "down", 1), (0, "1 60", "1 60", 2)]),
        ("disable success", &[(0, "1 60", "1 60", 1), (0, "nx 60", "nx 60", 2), (0, "1 60", "nx 60", 2)]),
        ("disable denial b. a.", &[(0, "nx 60", "nx 60", 1), (0, "1 60", "1 60", 2), (0, "2 60", "1 60", 2)]),
        ("keepttl", &[(0, "1 60", "1 60", 1), (59_000, "2 60", "1 60", 1), (1_000, "2 60", "2 60", 2)]),
    ];
    for (lines, steps) in table {
        play(lines, steps).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_cluster_and_answers_to_other_questions_are_not_kept() {
    let steps: &[Step] =
        &[(0, "cluster", "9 7", 1), (0, "cluster", "9 7", 2), (0, "other", "8 60", 3), (0, "1 60", "1 60", 4)];
    let bed = play("", steps).await;
    assert_eq!(bed.cache.counts.drops.load(Ordering::Relaxed), 1);
    // What the cluster answers is in the place of what was too old.
    let steps = [(0, "nx 5", "nx 5", 1), (6_000, "cluster", "nx 0", 2), (0, "down", "down", 3)];
    play("serve_stale", &steps).await;
}

#[tokio::test(start_paused = true)]
async fn popular_answers_are_fetched_before_they_are_too_old() {
    let (quiet, popular, unpopular): (&[Step], &[Step], &[Step]) = (
        &[
            (0, "1 100", "1 100", 1),
            (89_000, "2 100", "1 11", 1),
            (1_000, "2 100", "1 10", 1),
            (1_000, "2 100", "1 9", 1),
        ],
        &[
            (0, "1 100", "1 100", 1),
            (50_000, "2 100", "1 50", 1),
            (40_000, "2 100", "1 10", 2),
            // It was fetched, and is still popular.
            (0, "3 100", "2 100", 2),
            (95_000, "3 100", "2 5", 2),
            (1_000, "3 100", "2 4", 3),
            (0, "down", "3 100", 3),
        ],
        // A minute without a question, and it begins anew.
        &[
            (0, "1 100", "1 100", 1),
            (20_000, "2 100", "1 80", 1),
            (75_000, "2 100", "1 5", 1),
            (1_000, "2 100", "1 4", 2),
        ],
    );
    play("", quiet).await;
    let bed = play("prefetch 2", popular).await;
    assert_eq!(bed.cache.counts.prefetches.load(Ordering::Relaxed), 2);
    play("prefetch 2", unpopular).await;
}

#[tokio::test(start_paused = true)]
async fn one_fetch_for_many_questions() {
    for lines in ["prefetch 1", "serve_stale", "serve_stale 1h verify 1s 0 10s"] {
        let bed = Bed::new(lines);
        assert_eq!(bed.step(0, "1 100").await, ("1 100".into(), 1));
        let (wait, expected) = if lines == "prefetch 1" { (95_000, "1 5") } else { (100_000, "1 0") };
        sleep(Duration::from_millis(wait)).await;
        *bed.script.lock().unwrap() = "wait 5000 2 100";
        let request = bed.request("a.");
        let all = futures::future::join_all((0..50).map(|_| bed.ask(&request))).await;
        assert!(all.iter().all(|answer| said(answer.as_ref().unwrap()) == expected), "{lines}");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(bed.asked.lock().unwrap().len(), 2, "{lines}");
        sleep(Duration::from_secs(6)).await;
        assert_eq!(bed.step(0, "down").await.0.split_once(' ').unwrap().0, "2", "{lines}: it came later");
    }
}

#[tokio::test(start_paused = true)]
async fn stale_answers() {
    let first: Step = (0, "1 60", "1 60", 1);
    let table: [(&str, &[Step]); 11] = [
        // At once, and then it is fetched.
        ("serve_stale", &[first, (60_000, "2 60", "1 0", 2), (0, "3 60", "2 60", 2)]),
        ("serve_stale 1m", &[first, (119_000, "down", "1 0", 2), (1_000, "down", "down", 3)]),
        (
            "serve_stale",
            &[
                first,
                (60_000, "servfail", "1 0", 2),
                (0, "down", "1 0", 3),
                (0, "nx 60", "1 0", 4),
                (0, "down", "nx 60", 4),
            ],
        ),
        (
            "serve_stale 1h immediate 30s 10s",
            &[
                first,
                (60_000, "down", "1 30", 2),
                (9_000, "2 60", "1 30", 2),
                (1_000, "2 60", "1 30", 3),
                (0, "down", "2 60", 3),
            ],
        ),
        ("serve_stale\nkeepttl", &[first, (60_000, "2 60", "1 60", 2)]),
        // Only if nothing better comes.
        (
            "serve_stale 1h verify",
            &[
                first,
                (60_000, "2 60", "2 60", 2),
                (60_000, "down", "2 0", 3),
                (0, "servfail", "2 0", 4),
                (0, "nx 9", "nx 9", 5),
            ],
        ),
        (
            "serve_stale 1h verify 0 30s 10s",
            &[first, (60_000, "down", "1 30", 2), (9_000, "2 60", "1 30", 2), (1_000, "2 60", "2 60", 3)],
        ),
        (
            "serve_stale 1h verify 100ms",
            &[
                first,
                (60_000, "wait 50 2 60", "2 60", 2),
                (60_000, "wait 200 3 60", "2 0", 3),
                (200, "down", "3 60", 3),
            ],
        ),
        // A denial that is too old, and one that came later than a success.
        ("serve_stale", &[(0, "nx 10", "nx 10", 1), (10_000, "1 60", "nx 0", 2), (0, "down", "1 60", 2)]),
        ("serve_stale", &[first, (60_000, "nx 10", "1 0", 2), (0, "down", "nx 10", 2)]),
        // SERVFAIL was kept before there was an answer.
        ("serve_stale", &[(0, "servfail", "servfail", 1), (5_000, "1 60", "servfail", 2), (0, "down", "1 60", 2)]),
    ];
    for (lines, steps) in table {
        play(lines, steps).await;
    }
    let positive: [(&str, &[Step]); 2] = [
        (
            "serve_stale\nserve_stale_policy prefer_positive",
            &[
                first,
                (60_000, "nx 600", "1 0", 2),
                (0, "down", "1 0", 3),
                (0, "2 60", "1 0", 4),
                (0, "down", "2 60", 4),
            ],
        ),
        (
            "serve_stale 1h verify\nserve_stale_policy prefer_positive",
            &[first, (60_000, "nx 600", "1 0", 2), (0, "2 60", "2 60", 3)],
        ),
    ];
    for (lines, steps) in positive {
        play(lines, steps).await;
    }
    // A fetch before it is too old.
    let steps: &[Step] = &[first, (58_000, "nx 600", "1 2", 2), (0, "down", "1 2", 3)];
    play("prefetch 1\nserve_stale\nserve_stale_policy prefer_positive", steps).await;
}

#[tokio::test]
async fn questions_that_differ_in_their_bits() {
    let bed = Bed::new("");
    *bed.script.lock().unwrap() = "1 60";
    // (DO, CD, AD, the answer says it is authentic, questions that came through)
    let table = [
        (false, false, false, false, 1),
        (false, false, true, true, 1),
        (true, false, false, true, 2),
        (true, true, false, true, 3),
        (false, true, false, false, 4),
        (false, true, true, true, 4),
        (true, true, true, true, 4),
    ];
    for (dnssec, disabled, authentic, expected, asked) in table {
        let mut request = bed.request("a.");
        request.message.metadata.checking_disabled = disabled;
        request.message.metadata.authentic_data = authentic;
        if dnssec {
            let mut edns = Edns::new();
            edns.set_dnssec_ok(true);
            request.message.set_edns(edns);
        }
        let answer = bed.ask(&request).await.unwrap();
        let got = (answer.metadata.authentic_data, bed.asked.lock().unwrap().len());
        assert_eq!(got, (expected, asked), "{dnssec} {disabled} {authentic}");
    }
    // The resolver is always asked whether it is.
    assert!(bed.asked.lock().unwrap().iter().all(|request| request.message.metadata.authentic_data));
}

#[tokio::test]
async fn what_is_counted() {
    let bed = Bed::new("");
    *bed.script.lock().unwrap() = "1 60";
    for name in ["a.", "b.", "A.", "a.", "b."] {
        bed.ask(&bed.request(name)).await.unwrap();
    }
    *bed.script.lock().unwrap() = "nx 60";
    for name in ["c.", "c."] {
        bed.ask(&bed.request(name)).await.unwrap();
    }
    let mut out = Exposition::default();
    metrics::collect(&bed.cache, &mut out, "dns://:53");
    let text = out.text();
    let labels = "{server=\"dns://:53\",zones=\".\",view=\"\"";
    for expected in [
        format!("coredns_cache_requests_total{labels}}} 7"),
        format!("coredns_cache_misses_total{labels}}} 3"),
        format!("coredns_cache_hits_total{labels},type=\"success\"}} 3"),
        format!("coredns_cache_hits_total{labels},type=\"denial\"}} 1"),
        format!("coredns_cache_entries{labels},type=\"success\"}} 2"),
        format!("coredns_cache_entries{labels},type=\"denial\"}} 1"),
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} in\n{text}");
    }
}

#[tokio::test]
async fn zones_and_types_that_are_not_kept() {
    let blocks = corefile::parse(".:53 {\n cache example.org\n}\n").unwrap();
    let settings = settings::read(&blocks[0].directives[0], &blocks[0]).unwrap();
    let bed = Bed { cache: Arc::new(Cache::new(settings)), ..Bed::new("") };
    *bed.script.lock().unwrap() = "1 60";
    let table = [
        ("a.", 1),
        ("a.", 2),
        ("a.EXAMPLE.org.", 3),
        ("A.example.org.", 3),
        ("xexample.org.", 4),
        ("xexample.org.", 5),
    ];
    for (name, asked) in table {
        bed.ask(&bed.request(name)).await.unwrap();
        assert_eq!(bed.asked.lock().unwrap().len(), asked, "{name}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let before = bed.asked.lock().unwrap().len();
        for asked in 1..=2 {
            let request = fixture::request("a.example.org.", kind, &bed.servers);
            bed.ask(&request).await.unwrap();
            assert_eq!(bed.asked.lock().unwrap().len(), before + asked, "{kind}");
        }
    }
}
