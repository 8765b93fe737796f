use super::claims::{Known, object};
use super::jwt::Jwt;
use super::place::Place;
use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};

/// A token that nobody signed.
fn token(head: &str, claims: &str) -> String {
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn sec_c1_c2_times_are_whole_seconds_or_the_token_is_none() {
    let known = |claims: &str| object(claims.as_bytes()).map(|claims| Known::of(&claims));
    for wrong in ["\"1\"", "-1", "1.5", "null", "[1]", "{}", "true", "18446744073709551616", "9007199254740993"] {
        for claim in ["exp", "nbf", "iat"] {
            let claims = format!("{{\"{claim}\":{wrong}}}");
            assert_eq!(known(&claims), Some(Err(TokenRefusal::Claim(claim))), "{claims}");
        }
    }
    for none in ["{\"exp\":1e400}", "{\"exp\":1,\"exp\":2}", "[]", "7", "{\"a\":{\"b\":1,\"b\":1}}", "{}x", ""] {
        assert_eq!(known(none), None, "{none}");
    }
    let known = |claims: &str| known(claims).expect("an object").expect("claims");
    assert_eq!(known("{\"exp\":1000}").at(1060), Ok(()));
    assert_eq!(known("{\"exp\":1000}").at(1061), Err(TokenRefusal::Expired));
    assert_eq!(known("{\"nbf\":1000}").at(940), Ok(()));
    assert_eq!(known("{\"nbf\":1000}").at(939), Err(TokenRefusal::NotYet));
    assert_eq!(known("{\"exp\":9007199254740991,\"nbf\":0}").at(u64::MAX), Err(TokenRefusal::Expired));
    assert_eq!(known("{}").at(0), Ok(()));
}

#[test]
fn sec_c3_a_token_says_how_it_is_signed_in_a_way_that_is_known() {
    let why = |head: &str| Jwt::parse(&token(head, "{}")).err();
    assert_eq!(why("{\"alg\":\"RS256\"}"), None);
    for (head, refusal) in [
        ("{}", TokenRefusal::Algorithm),
        ("{\"alg\":7}", TokenRefusal::Algorithm),
        ("{\"alg\":\"none\"}", TokenRefusal::UnknownAlgorithm),
        ("{\"alg\":\"None\"}", TokenRefusal::UnknownAlgorithm),
        ("{\"alg\":\"HS256\"}", TokenRefusal::UnknownAlgorithm),
        ("{\"alg\":\"rs256\"}", TokenRefusal::UnknownAlgorithm),
        ("{\"alg\":\"RS256\",\"alg\":\"none\"}", TokenRefusal::HeaderJson),
        ("{\"alg\":\"RS256\",\"kid\":7}", TokenRefusal::KeyName),
        ("{\"alg\":\"RS256\",\"crit\":[]}", TokenRefusal::Critical),
        ("[]", TokenRefusal::HeaderJson),
    ] {
        assert_eq!(why(head), Some(refusal), "{head}");
    }
    let long = token("{\"alg\":\"RS256\"}", &format!("{{\"a\":\"{}\"}}", "x".repeat(16 << 10)));
    for (text, refusal) in [
        ("", TokenRefusal::Form),
        ("a.b", TokenRefusal::Form),
        ("a.b.c.d", TokenRefusal::Form),
        ("a.b.c.d.e", TokenRefusal::Form),
        ("!.e30.c2ln", TokenRefusal::HeaderEncoding),
        ("eyJhbGciOiJSUzI1NiJ9.!.c2ln", TokenRefusal::PayloadEncoding),
        ("eyJhbGciOiJSUzI1NiJ9.W10.c2ln", TokenRefusal::PayloadJson),
        ("eyJhbGciOiJSUzI1NiJ9.e30.!", TokenRefusal::SignatureEncoding),
        (&long, TokenRefusal::TooLong),
    ] {
        assert_eq!(Jwt::parse(text).err(), Some(refusal), "{text:.40}");
    }
}

#[test]
fn tokens_are_found_where_they_may_stand() {
    let found = |place: Place, headers: &[(HeaderName, &'static str)], target: &str| {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let asked =
            Asked { method: &Method::GET, scheme: "http", authority: "a", target, headers: &headers, metadata: None };
        place.tokens(&asked).into_iter().map(|(token, _)| token.into_owned()).collect::<Vec<_>>()
    };
    let bearer = || Place::Field(AUTHORIZATION, "Bearer ".into());
    assert_eq!(found(bearer(), &[(AUTHORIZATION, "Bearer a.b.c")], "/"), ["a.b.c"]);
    assert_eq!(found(bearer(), &[(AUTHORIZATION, "Bearer  a.b.c, more")], "/"), ["a.b.c"]);
    assert_eq!(found(bearer(), &[(AUTHORIZATION, "bearer a.b.c")], "/"), Vec::<String>::new());
    assert_eq!(found(bearer(), &[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer b")], "/"), ["a", "b"]);
    assert_eq!(found(Place::Field(AUTHORIZATION, "".into()), &[(AUTHORIZATION, "a b")], "/"), ["a b"]);
    assert_eq!(found(Place::Parameter("t".into()), &[], "/?a=1&t=a.b.c&t=%64"), ["a.b.c", "d"]);
    let cookies = [(COOKIE, "a=1; t=\"a.b\";t2=x"), (COOKIE, "t=c")];
    assert_eq!(found(Place::Cookie("t".into()), &cookies, "/"), ["a.b", "c"]);
}

type Change = fn(&mut proto::JwtAuthentication);

#[test]
fn what_is_not_known_is_rejected() {
    let filter = |change: Change| {
        let keys = api::envoy::envoy::config::core::v3::DataSource {
            specifier: Some(api::envoy::envoy::config::core::v3::data_source::Specifier::InlineString(
                "{\"keys\":[]}".into(),
            )),
            ..Default::default()
        };
        let provider = proto::JwtProvider {
            jwks_source_specifier: Some(proto::jwt_provider::JwksSourceSpecifier::LocalJwks(keys)),
            ..Default::default()
        };
        let requires = proto::JwtRequirement {
            requires_type: Some(proto::jwt_requirement::RequiresType::ProviderName("a".into())),
        };
        let everything = api::envoy::envoy::config::route::v3::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..Default::default()
        };
        let rule = proto::RequirementRule {
            r#match: Some(everything),
            requirement_type: Some(RequirementType::Requires(requires)),
        };
        let mut filter = proto::JwtAuthentication {
            providers: [("a".to_owned(), provider)].into(),
            rules: vec![rule],
            ..Default::default()
        };
        change(&mut filter);
        Tokens::from_proto(&filter).err()
    };
    assert_eq!(filter(|_| {}), None);
    let changes: [(Change, &str); 6] = [
        (|filter| filter.rules.clear(), "one rule"),
        (|filter| filter.rules[0].requirement_type = None, "requires is accepted"),
        (|filter| filter.providers.clear(), "\"a\" is not there"),
        (|filter| filter.providers.values_mut().for_each(|one| one.require_expiration = true), "require_expiration"),
        (|filter| filter.providers.values_mut().for_each(|one| one.jwks_source_specifier = None), "keys"),
        (|filter| filter.providers.values_mut().for_each(|one| one.forward_payload_header = "a b".into()), "\"a b\""),
    ];
    for (change, part) in changes {
        let why = filter(change).unwrap_or_default();
        assert!(why.contains(part), "{part}: {why}");
    }
}
