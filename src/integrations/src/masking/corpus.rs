//! What has to go and what has to stay, for the tests of every user of the engine.

/// What surrounds and holds a secret (at `{}`), and the secret itself.
pub(crate) fn secrets() -> Vec<(String, String)> {
    // Put together at run time, so that no scanner takes this file for a leak.
    let s = |parts: &[&str]| parts.concat();
    let mixed = "Zk3Rq9Lw7Tn2Xv5Bp8Hd4Jm6Cs1Gf0Qa";
    vec![
        ("Authorization: Bearer {}".into(), s(&["abc123.", mixed])),
        (
            "authorization: bearer {}, next".into(),
            "short1token".into(),
        ),
        ("header \"Basic {}\"".into(), "YWRtaW46aHVudGVyMg==".into()),
        (
            "Proxy-Authorization: Basic {}".into(),
            "dXNlcjpwYXNz".into(),
        ),
        (
            "postgres://app:{}@db.example.com/app".into(),
            "hunter2".into(),
        ),
        ("redis://:{}@cache:6379".into(), "r3disPass".into()),
        (
            "git clone https://{}@github.example.com/x.git".into(),
            "oauth2tokenvalue".into(),
        ),
        ("amqp://guest:{}@mq:5672/%2f".into(), "gu%40est!9".into()),
        ("key {} leaked".into(), s(&["AKIA", "IOSFODNN7EXAMPLE"])),
        ("temporary {}".into(), s(&["ASIA", "Q3EGRIOSFODNN7EX"])),
        (
            "aws_secret_access_key = {}".into(),
            s(&["wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"]),
        ),
        (
            "plain {} in text".into(),
            s(&["wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"]),
        ),
        (
            "maps key {}".into(),
            s(&["AIza", "SyA1234567890abcdefghijklmnopqrstuv"]),
        ),
        (
            "gcloud {}".into(),
            s(&["ya29.", "a0AfH6SMBx_example_token_value"]),
        ),
        (
            "oauth {}".into(),
            s(&["GOCSPX-", "1mVwFTjGIXgs2BC2uHzksQi0HAK"]),
        ),
        (
            "jwt {} expired".into(),
            s(&[
                "eyJhbGciOiJIUzI1NiJ9",
                ".eyJzdWIiOiIxMjM0In0",
                ".dozjgNryP4J3jVmN",
            ]),
        ),
        (
            "{}".into(),
            s(&[
                "-----BEGIN RSA PRIVATE ",
                "KEY-----\nMIIEow\nAB+c\n-----END RSA PRIVATE KEY-----",
            ]),
        ),
        (
            "{}".into(),
            s(&[
                "-----BEGIN OPENSSH PRIVATE ",
                "KEY-----\nb3BlbnNz cut off here",
            ]),
        ),
        ("password={}".into(), "hunter2".into()),
        ("DB_PASSWORD: {}".into(), "correct-horse".into()),
        ("{\"password\":\"{}\"}".into(), "with spaces in it".into()),
        (
            "{\\\"client_secret\\\":\\\"{}\\\"}".into(),
            "esc4ped".into(),
        ),
        ("the password is {}".into(), "swordfish".into()),
        ("api_key: {}".into(), "0123456789abcdef".into()),
        ("x-api-key: {}".into(), "f00dfeed".into()),
        ("?token={}&a=b".into(), "deadbeef01".into()),
        ("mysqldump --password {}".into(), "topsecret".into()),
        ("curl -u admin:{}".into(), "s3cr3t".into()),
        ("--api-key={}".into(), "abcdefg1".into()),
        (
            "push with {}".into(),
            s(&["ghp_", "16C7e42F292c6912E7710c838347Ae178B4a"]),
        ),
        (
            "push with {}".into(),
            s(&["github_pat_", "11ABCDEFG0123456789_abcdefghijklmnop"]),
        ),
        ("ci {}".into(), s(&["glpat-", "abcdefghij0123456789"])),
        ("bot {}".into(), s(&["xoxb-", "123456789012-abcdefghijkl"])),
        (
            "post to https://hooks.slack.com/{}".into(),
            s(&["services/", "T000/B000/XXXXXXXX"]),
        ),
        (
            "jira {}".into(),
            s(&["ATATT3", "xFfGF0123456789abcdefghijklmnop"]),
        ),
        ("llm {}".into(), s(&["sk-", "ant-api03-abcdefghijklmnop"])),
        (
            "pay {}".into(),
            s(&["sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"]),
        ),
        (
            "hook {}".into(),
            s(&["whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]),
        ),
        (
            "mail {}".into(),
            s(&["SG.", "ngeVfQFYQlKU0uf", ".sLaGvu92TzPCErHQ"]),
        ),
        (
            "Set-Cookie: sid={}; Path=/".into(),
            "31d4d96e407aad42".into(),
        ),
        ("client-key-data: {}".into(), "LS0tLS1CRUdJTg==".into()),
        (
            "AccountKey={};EndpointSuffix=x".into(),
            "ZmFrZWtleQ==".into(),
        ),
        ("ours {}".into(), s(&["cs_", "9cJ2nQ8xVb4LmT7yRk3W"])),
        ("blob {}".into(), mixed.to_owned()),
        ("kafka://u:{}@broker:9092/t".into(), "p@ss@word-9".into()),
        // Beyond what an assistant pastes: what programs log.
        (
            "{\"accessToken\":\"{}\",\"expiresIn\":3600}".into(),
            "opaque-value-1".into(),
        ),
        (
            "{\"user\":\"li\",\"clientSecret\": \"{}\"}".into(),
            "s3cret-of-client".into(),
        ),
        ("dbPassword={} host=db".into(), "pa55w0rd".into()),
        (
            "DATABASE_URL=mysql://root:{}@db:3306/app".into(),
            "t00r".into(),
        ),
        (
            "mongodb+srv://svc:{}@cluster0.example.net/?w=majority".into(),
            "m0ng0".into(),
        ),
        (
            "Server=tcp:sql,1433;User ID=sa;Password={};Encrypt=true".into(),
            "S3rver!Pass".into(),
        ),
        (
            "Endpoint=sb://x/;SharedAccessKey={};EntityPath=y".into(),
            "c2hhcmVkLWtleQ==".into(),
        ),
        (
            "GET /blob?sv=2022&sig={}&se=x".into(),
            "aGVsbG8lMkJ3b3JsZA".into(),
        ),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature={}&x=1".into(),
            "fe5f80f77d5fa3be".into(),
        ),
        (
            "azure secret {} rotated".into(),
            s(&["Abc8", "Q~", "abcdefghijklmnopqrstuvwxyz0123456"]),
        ),
        (
            "registry {}".into(),
            s(&["npm_", "abcdefghijklmnopqrstuvwxyz0123456789"]),
        ),
        (
            "upload {}".into(),
            s(&["pypi-", "AgEIcHlwaS5vcmcCJGFiY2RlZg"]),
        ),
        (
            "docker {}".into(),
            s(&["dckr_pat_", "aBcDeFgHiJkLmNoPqRsT"]),
        ),
        ("vault {}".into(), s(&["hvs.", "CAESIJabcdefghijklmnop"])),
        (
            "shop {}".into(),
            s(&["shpat_", "0123456789abcdef0123456789abcdef"]),
        ),
        (
            "droplet {}".into(),
            s(&["dop_v1_", "0123456789abcdef0123456789abcdef"]),
        ),
        (
            "warehouse {}".into(),
            s(&["dapi", "0123456789abcdef0123456789abcdef"]),
        ),
        (
            "telegram {}".into(),
            s(&["123456789:AA", "Hdqwertyuiopasdfghjklzxcvbnm123456"]),
        ),
        (
            "sms {}".into(),
            s(&["SK", "0123456789abcdef0123456789abcdef"]),
        ),
        (
            "mailgun {}".into(),
            s(&["key-", "0123456789abcdef0123456789abcdef"]),
        ),
        (
            "https://discord.com/api/webhooks/{}".into(),
            "1234/abc-DEF_ghi".into(),
        ),
        (
            "shadow {}".into(),
            s(&["$6$", "saltsalt$hashhashhashhash/hash"]),
        ),
        (
            "bcrypt {}".into(),
            s(&["$2b$", "12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi"]),
        ),
        (
            "age {}".into(),
            s(&["AGE-SECRET-KEY-1", "QQPQQPQQPQQPQQPQQPQQPQQP"]),
        ),
        ("Cookie: a=1; session={}".into(), "0d15ea5e".into()),
        (
            "request headers: {'X-Auth-Token': '{}'}".into(),
            "plain-token-77".into(),
        ),
        (
            "Authorization: AWS4-HMAC-SHA256 {}, SignedHeaders=host".into(),
            "Credential=abc/2026/x".into(),
        ),
        ("env: REDIS_PASSWORD => {}".into(), "cache-me".into()),
        ("slack app {}".into(), s(&["xapp-", "1-A111-222-abcdef"])),
        ("refresh_token: {}".into(), "1//0gabcdefg".into()),
    ]
}

/// Lines that look a little like the above and are harmless.
pub(crate) const HARMLESS: [&str; 49] = [
    "pulling http://registry.example:5000/shop/app@sha256:4bf92f3577b34da6a3ce929d0e0e4736",
    "GET https://example.com/u?mail=li@example.com",
    "checkout-7d9f6c5b4-x2x1l",
    "Memory at 97% for 22 minutes, restartCount 1 to 3; see INC-991.",
    "CrashLoopBackOff: back-off 5m0s restarting failed container",
    "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10",
    "01939C5E-7B1A-7C44-9D1E-2F6A0C4B8D10",
    "3f9a0c4b8d103f9a0c4b8d103f9a0c4b8d103f9a0c4b8d103f9a0c4b8d10aaaa",
    "uses basic authentication",
    "Basic Authentication failed for li",
    "https://grafana.example.com/d/abc?from=now-1h",
    "commit 1af8c0ffee0123456789abcdef0123456789abcd by li",
    "Pulled registry.example/shop/checkout@sha256:4bf92f3577b34da6a3ce929d0e0e47364bf92f3577b34da6a3ce929d0e0e4736",
    "traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "traceId=4bf92f3577b34da6a3ce929d0e0e4736 spanId=00f067aa0ba902b7",
    "X-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736",
    "RequestId-4bf92f3577b34da6a3ce929d0e0e4736",
    "integrity sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "key fingerprint SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
    "digest sha256:4bf92f3577b34da6a3ce929d0e0e4736",
    "at org.springframework.boot.SpringApplication.run(SpringApplication.java:1332)",
    "  File \"/usr/local/lib/python3.12/site-packages/Django/core/handlers/base.py\", line 197",
    "/app/src/Controllers/V2/UserController/GetOrders2",
    "gke-Prod-Cluster1-default-pool-7c9a3b1f-x2x1",
    "token is expired",
    "error: Token expired at 12:00",
    "password: null",
    "the password is incorrect for user app",
    "secret \"db-credentials\" not found",
    "secret_name=db-credentials",
    "prompt_tokens=4096 completion_tokens=312",
    "token_type: Bearer",
    "api_key is missing",
    "tests: 12 passed, 3 failed, compass=north, bypass=on",
    "monkey=banana keyboard=qwerty",
    "spinning=3 ping=20ms cookies accepted",
    "user li logged in from 10.0.0.12:51234",
    "GET /v1/orders/8812345678901234567890 200 12ms",
    "2026-11-22T16:30:01.123456789Z level=info msg=\"listening\" address=0.0.0.0:8080",
    "git clone https://github.example.com/shop/x.git",
    "jdbc:postgresql://db.example.com:5432/app",
    "ULID 01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "sessions=12 accounts=4",
    "-----BEGIN CERTIFICATE-----",
    "WWW-Authenticate: Basic realm=\"shop\"",
    "goroutine 17 [running]: main.(*Server).Handle(0xc0000a4000, {0x7f3a, 0x10})",
    "exit status 137, OOMKilled, limit 256Mi",
    "aws region eu-central-1, arn:aws:iam::123456789012:role/Checkout",
    "lock id 4bf92f3577b34da6a3ce929d0e0e47364bf92f3577b34da6",
];
