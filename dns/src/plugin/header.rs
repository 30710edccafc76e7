//! Flags of questions and answers.

use std::sync::Arc;

use hickory_proto::op::Metadata;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::request::{Body, Failure, Reply, Request};

/// One of a header's flags.
type Flag = fn(&mut Metadata) -> &mut bool;

/// The flags that can be set and cleared.
const FLAGS: [(&str, Flag); 3] = [
    ("aa", |metadata| &mut metadata.authoritative),
    ("ra", |metadata| &mut metadata.recursion_available),
    ("rd", |metadata| &mut metadata.recursion_desired),
];

/// What a flag becomes.
type Rule = (Flag, bool);

#[derive(Default)]
struct Header {
    query: Vec<Rule>,
    response: Vec<Rule>,
}

/// `header { query|response set|clear aa|ra|rd... }`: sets flags of the questions that other
/// plugins see, and of the answers that clients get, line after line.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    let mut header = Header::default();
    for line in directive.properties() {
        let rules = match line.name.text.as_str() {
            "query" => &mut header.query,
            "response" => &mut header.response,
            other => return Err(line.name.error(format!("invalid selector {other:?}: query or response"))),
        };
        let [action, flags @ ..] = line.between(2, usize::MAX)? else { continue };
        let to = match action.text.as_str() {
            "set" => true,
            "clear" => false,
            other => return Err(action.error(format!("unknown flag action {other:?}: set or clear"))),
        };
        let rule = |word: &Word| match FLAGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word.text)) {
            Some((_, flag)) => Ok((*flag, to)),
            None => Err(word.error(format!("unknown flag {:?}", word.text))),
        };
        rules.extend(flags.iter().map(rule).collect::<Result<Vec<_>, _>>()?);
    }
    if header.query.is_empty() && header.response.is_empty() {
        return Err(directive.name.error("no rule"));
    }
    setup.slow(|_| true);
    setup.push(header);
    Ok(())
}

fn apply(rules: &[Rule], metadata: &mut Metadata) {
    for (flag, to) in rules {
        *flag(metadata) = *to;
    }
}

impl Plugin for Header {
    async fn handle(self: Arc<Self>, mut request: Request, next: Next) -> Result<Reply, Failure> {
        apply(&self.query, &mut request.message.metadata);
        let mut reply = next.oneshot(request).await?;
        if let Body::Message(message) = &mut reply.body {
            apply(&self.response, &mut message.metadata);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn flags() {
        // Authoritative, recursion available, recursion desired.
        let table = [
            ("", Ok((true, true, true))),
            ("header {\nresponse set ra AA\nresponse clear rd\n}", Ok((true, true, false))),
            ("header {\nresponse clear aa ra\nresponse set ra\n}", Ok((false, true, true))),
            ("header {\nquery clear rd\n}", Ok((true, true, false))),
            ("header {\n}", Err(())),
            ("header {\nresponse\n}", Err(())),
            ("header {\nresponse set\n}", Err(())),
            ("header {\nresponse set tc\n}", Err(())),
            ("header {\nanswer set aa\n}", Err(())),
            ("header {\nresponse flip aa\n}", Err(())),
        ];
        for (text, want) in table {
            let got = async {
                let text = format!("{text}\nkubernetes cluster.local");
                let servers = Arc::new(fixture::try_servers(&text, fixture::cluster().snapshot()).map_err(|_| ())?);
                let request = fixture::request("web.default.svc.cluster.local.", RecordType::A, &servers);
                let packet = request.question().to_vec().unwrap();
                let quick = servers.quick(&packet, &mut [0; 512], 0).is_some();
                assert_ne!(quick, text.starts_with("header"), "{text}");
                let Body::Message(answer) = servers.handle(request).await.unwrap().body else { panic!("silence") };
                let Metadata { authoritative, recursion_available, recursion_desired, .. } = answer.metadata;
                Ok((authoritative, recursion_available, recursion_desired))
            };
            assert_eq!(got.await, want, "{text}");
        }
    }
}
