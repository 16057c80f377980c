CREATE TABLE public.bgtasks_deliveries (
    id bigint NOT NULL,
    sink text NOT NULL,
    kind text NOT NULL,
    request_id character varying(36),
    seq integer NOT NULL,
    payload text,
    tries integer NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    dead integer NOT NULL,
    error text,
    worker text,
    leased_until bigint,
    channel text DEFAULT ''::text NOT NULL,
    app text DEFAULT ''::text NOT NULL,
    lease bigint
);
CREATE SEQUENCE public.bgtasks_deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.bgtasks_deliveries_id_seq OWNED BY public.bgtasks_deliveries.id;
CREATE TABLE public.bgtasks_devices (
    app_id text DEFAULT ''::text NOT NULL,
    id character varying(32) NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    owner text,
    platform text,
    app text,
    lang text,
    request_id character varying(36),
    details text NOT NULL,
    created_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    installation text
);
CREATE TABLE public.bgtasks_durations (
    app text DEFAULT ''::text NOT NULL,
    name text NOT NULL,
    step text NOT NULL,
    "position" integer NOT NULL,
    runs integer NOT NULL,
    seconds double precision NOT NULL
);
CREATE TABLE public.bgtasks_events (
    task bigint NOT NULL,
    seq integer NOT NULL,
    type text NOT NULL,
    at bigint NOT NULL,
    attempt integer NOT NULL,
    data text NOT NULL
);
CREATE TABLE public.bgtasks_marks (
    app text DEFAULT ''::text NOT NULL,
    key text NOT NULL,
    until bigint NOT NULL
);
CREATE TABLE public.bgtasks_meta (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.bgtasks_payloads (
    task bigint NOT NULL,
    part text NOT NULL,
    head text,
    body bytea NOT NULL
);
CREATE TABLE public.bgtasks_preferences (
    app text DEFAULT ''::text NOT NULL,
    owner text NOT NULL,
    document text NOT NULL
);
CREATE TABLE public.bgtasks_tasks (
    request_id character varying(36) NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    expires_after bigint NOT NULL,
    app text DEFAULT ''::text NOT NULL,
    status text NOT NULL,
    owner text,
    attempt integer NOT NULL,
    seq integer NOT NULL,
    queue text NOT NULL,
    priority integer NOT NULL,
    place bigint,
    max_attempts integer DEFAULT 3 NOT NULL,
    on_interrupt text DEFAULT 'retry'::text NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    suspicions integer DEFAULT 0 NOT NULL,
    progress text,
    started_at bigint,
    completed_at bigint,
    expire_at bigint,
    error_message text,
    error_type text,
    result_status integer,
    result_type text,
    result_size bigint,
    worker text,
    lease_until bigint,
    cancel_requested_at bigint,
    seen_at bigint,
    seen_via text,
    told_at bigint,
    muted_at bigint,
    user_token text,
    token_note text,
    idempotency_scope text,
    fingerprint text,
    number bigint NOT NULL
);
CREATE SEQUENCE public.bgtasks_tasks_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.bgtasks_tasks_number_seq OWNED BY public.bgtasks_tasks.number;
ALTER TABLE ONLY public.bgtasks_deliveries ALTER COLUMN id SET DEFAULT nextval('public.bgtasks_deliveries_id_seq'::regclass);
ALTER TABLE ONLY public.bgtasks_tasks ALTER COLUMN number SET DEFAULT nextval('public.bgtasks_tasks_number_seq'::regclass);
INSERT INTO public.bgtasks_deliveries VALUES (2, 'phone', 'event', '3d34fc5d-fcf6-4ea6-b05f-11398310a292', 2, NULL, 0, 1796009833223237, 1796009833223237, 0, NULL, NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (3, 'phone', 'event', '3d34fc5d-fcf6-4ea6-b05f-11398310a292', 8, NULL, 0, 1796009833315917, 1796009833315917, 0, NULL, NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (1, 'phone', 'event', '3d34fc5d-fcf6-4ea6-b05f-11398310a292', 1, NULL, 1, 1796009833223237, 1796009834038113, 0, 'RetryLater: the phone is off', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (4, 'phone', 'event', 'ad0f4b7c-7e6e-4973-bb0d-8e3c0294a50b', 1, NULL, 1, 1796009833388326, 1796009833388326, 1, 'Undeliverable: the phone takes no failures', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (5, 'phone', 'event', 'ad0f4b7c-7e6e-4973-bb0d-8e3c0294a50b', 2, NULL, 1, 1796009833406436, 1796009833406436, 1, 'Undeliverable: the phone takes no failures', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (6, 'phone', 'event', 'ad0f4b7c-7e6e-4973-bb0d-8e3c0294a50b', 3, NULL, 1, 1796009833438456, 1796009833438456, 1, 'Undeliverable: the phone takes no failures', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (8, 'phone', 'event', '17553b26-712d-484b-a716-2980bf3d2db9', 2, NULL, 0, 1796009833539344, 1796009833539344, 0, NULL, NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (7, 'phone', 'event', '17553b26-712d-484b-a716-2980bf3d2db9', 1, NULL, 1, 1796009833539344, 1796009834953056, 0, 'RetryLater: the phone is off', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (10, 'phone', 'event', '2638497c-0457-403f-8bd8-3fc5f697ed6c', 2, NULL, 0, 1796009833637250, 1796009833637250, 0, NULL, NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (11, 'phone', 'event', '6cfde9c8-1ad5-41de-a3b7-7aa2dbb5a94f', 1, NULL, 0, 1796009833687047, 1796009833687047, 0, NULL, NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_deliveries VALUES (9, 'phone', 'event', '2638497c-0457-403f-8bd8-3fc5f697ed6c', 1, NULL, 1, 1796009833607283, 1796009834908326, 0, 'RetryLater: the phone is off', NULL, NULL, '', 'shop', NULL);
INSERT INTO public.bgtasks_devices VALUES ('shop', '752236431624c5614ca4e368c017ce6e', 'fcm_token', 'token-of-ada', 'ada', 'ios', 'studio', 'en', NULL, '{}', 1796009833490866, 1796009833490866, NULL);
INSERT INTO public.bgtasks_durations VALUES ('shop', 'write', 'Outline', 0, 1, 0.0008437639990006573);
INSERT INTO public.bgtasks_durations VALUES ('shop', 'write', 'Write', 1, 1, 9.031999979924876e-05);
INSERT INTO public.bgtasks_events VALUES (1, 1, 'accepted', 1796009833223237, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_events VALUES (1, 2, 'started', 1796009833223237, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (1, 3, 'step_started', 1796009833300749, 1, '{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (1, 4, 'step_finished', 1796009833301438, 1, '{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null,"seconds":0.001}');
INSERT INTO public.bgtasks_events VALUES (1, 5, 'step_started', 1796009833301526, 1, '{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections"}');
INSERT INTO public.bgtasks_events VALUES (1, 6, 'output', 1796009833301570, 1, '{"offset":0,"chunks":["Once upon a time"]}');
INSERT INTO public.bgtasks_events VALUES (1, 7, 'step_finished', 1796009833301605, 1, '{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections","seconds":0.0}');
INSERT INTO public.bgtasks_events VALUES (1, 8, 'completed', 1796009833315917, 1, '{"progress_percentage":100.0}');
INSERT INTO public.bgtasks_events VALUES (2, 1, 'accepted', 1796009833388326, 0, '{"name":"fail"}');
INSERT INTO public.bgtasks_events VALUES (2, 2, 'started', 1796009833406436, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (2, 3, 'failed', 1796009833438456, 1, '{"error_message":"out of paper","rejected":true,"result_status":422,"progress_percentage":0.0}');
INSERT INTO public.bgtasks_events VALUES (3, 1, 'accepted', 1796009833539344, 0, '{"name":"draw"}');
INSERT INTO public.bgtasks_events VALUES (3, 2, 'started', 1796009833539344, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (3, 3, 'step_started', 1796009833552467, 1, '{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (3, 4, 'step_started', 1796009833552575, 1, '{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (3, 5, 'step_finished', 1796009833552809, 1, '{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null,"seconds":0.0,"checkpoint":true}');
INSERT INTO public.bgtasks_events VALUES (3, 6, 'progress', 1796009833553005, 1, '{"step":"Sketch","step_number":1,"total_steps":2,"details":null,"progress_percentage":25.0,"eta_seconds":null}');
INSERT INTO public.bgtasks_events VALUES (3, 7, 'step_finished', 1796009833568826, 1, '{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null,"seconds":0.017}');
INSERT INTO public.bgtasks_events VALUES (3, 8, 'step_started', 1796009833568945, 1, '{"step":"Ink","path":["Ink"],"step_number":2,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (3, 9, 'progress', 1796009833576215, 1, '{"step":"Ink","step_number":2,"total_steps":2,"details":null,"progress_percentage":50.0,"eta_seconds":null}');
INSERT INTO public.bgtasks_events VALUES (4, 1, 'accepted', 1796009833607283, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_events VALUES (4, 2, 'cancelled', 1796009833637250, 0, '{"progress_percentage":0.0}');
INSERT INTO public.bgtasks_events VALUES (5, 1, 'accepted', 1796009833687047, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_meta VALUES ('version', '7');
INSERT INTO public.bgtasks_meta VALUES ('app:shop', '1796009833209365');
INSERT INTO public.bgtasks_payloads VALUES (1, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b224964656d706f74656e63792d4b6579222c222f77726974652d636f6d706c65746564225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c22656e7669726f6e223a7b225343524950545f4e414d45223a22222c22504154485f494e464f223a222f7772697465222c2251554552595f535452494e47223a22222c225241575f555249223a222f7772697465222c22524551554553545f555249223a222f7772697465222c22485454505f484f5354223a226c6f63616c686f7374222c225345525645525f4e414d45223a226c6f63616c686f7374222c225345525645525f504f5254223a223830222c225345525645525f50524f544f434f4c223a22485454502f312e31222c2252454d4f54455f41444452223a223132372e302e302e31222c22777367692e75726c5f736368656d65223a2268747470227d2c2264726f70706564223a5b22582d55736572225d2c2274657874223a227b5c22746578745c223a205c22636f6d706c657465645c227d227d');
INSERT INTO public.bgtasks_payloads VALUES (1, 'result', '[200,"application/json",[]]', '\x7b2274657874223a22636f6d706c65746564227d0a');
INSERT INTO public.bgtasks_payloads VALUES (2, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f6661696c222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b224964656d706f74656e63792d4b6579222c222f6661696c225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c22656e7669726f6e223a7b225343524950545f4e414d45223a22222c22504154485f494e464f223a222f6661696c222c2251554552595f535452494e47223a22222c225241575f555249223a222f6661696c222c22524551554553545f555249223a222f6661696c222c22485454505f484f5354223a226c6f63616c686f7374222c225345525645525f4e414d45223a226c6f63616c686f7374222c225345525645525f504f5254223a223830222c225345525645525f50524f544f434f4c223a22485454502f312e31222c2252454d4f54455f41444452223a223132372e302e302e31222c22777367692e75726c5f736368656d65223a2268747470227d2c2264726f70706564223a5b22582d55736572225d2c2274657874223a227b7d227d');
INSERT INTO public.bgtasks_payloads VALUES (2, 'result', '[422,"text/html; charset=utf-8",[]]', '\x3c21646f63747970652068746d6c3e0a3c68746d6c206c616e673d656e3e0a3c7469746c653e34323220556e70726f6365737361626c6520456e746974793c2f7469746c653e0a3c68313e556e70726f6365737361626c6520456e746974793c2f68313e0a3c703e6f7574206f662070617065723c2f703e0a');
INSERT INTO public.bgtasks_payloads VALUES (3, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f64726177222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b224964656d706f74656e63792d4b6579222c222f64726177225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c22656e7669726f6e223a7b225343524950545f4e414d45223a22222c22504154485f494e464f223a222f64726177222c2251554552595f535452494e47223a22222c225241575f555249223a222f64726177222c22524551554553545f555249223a222f64726177222c22485454505f484f5354223a226c6f63616c686f7374222c225345525645525f4e414d45223a226c6f63616c686f7374222c225345525645525f504f5254223a223830222c225345525645525f50524f544f434f4c223a22485454502f312e31222c2252454d4f54455f41444452223a223132372e302e302e31222c22777367692e75726c5f736368656d65223a2268747470227d2c2264726f70706564223a5b22582d55736572225d2c2274657874223a227b7d227d');
INSERT INTO public.bgtasks_payloads VALUES (3, 'checkpoint:4b92255ad0d7b2154c67ad1c0db799a0', '{"path":["Sketch","sketch"],"place":1,"alone":false}', '\x5b7b226c696e6573223a337d2c5b5d5d');
INSERT INTO public.bgtasks_payloads VALUES (4, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b224964656d706f74656e63792d4b6579222c222f77726974652d63616e63656c6c6564225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c22656e7669726f6e223a7b225343524950545f4e414d45223a22222c22504154485f494e464f223a222f7772697465222c2251554552595f535452494e47223a22222c225241575f555249223a222f7772697465222c22524551554553545f555249223a222f7772697465222c22485454505f484f5354223a226c6f63616c686f7374222c225345525645525f4e414d45223a226c6f63616c686f7374222c225345525645525f504f5254223a223830222c225345525645525f50524f544f434f4c223a22485454502f312e31222c2252454d4f54455f41444452223a223132372e302e302e31222c22777367692e75726c5f736368656d65223a2268747470227d2c2264726f70706564223a5b22582d55736572225d2c2274657874223a227b5c22746578745c223a205c2263616e63656c6c65645c227d227d');
INSERT INTO public.bgtasks_payloads VALUES (5, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b224964656d706f74656e63792d4b6579222c222f77726974652d77616974696e67225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c22656e7669726f6e223a7b225343524950545f4e414d45223a22222c22504154485f494e464f223a222f7772697465222c2251554552595f535452494e47223a22222c225241575f555249223a222f7772697465222c22524551554553545f555249223a222f7772697465222c22485454505f484f5354223a226c6f63616c686f7374222c225345525645525f4e414d45223a226c6f63616c686f7374222c225345525645525f504f5254223a223830222c225345525645525f50524f544f434f4c223a22485454502f312e31222c2252454d4f54455f41444452223a223132372e302e302e31222c22777367692e75726c5f736368656d65223a2268747470227d2c2264726f70706564223a5b22582d55736572225d2c2274657874223a227b5c22746578745c223a205c2277616974696e675c227d227d');
INSERT INTO public.bgtasks_preferences VALUES ('shop', 'ada', '{"kinds":["failed"],"quiet_hours":null,"muted":[]}');
INSERT INTO public.bgtasks_tasks VALUES ('3d34fc5d-fcf6-4ea6-b05f-11398310a292', 'write', 'view', 1796009833223237, 1796009833315917, 3153600000000000, 'shop', 'completed', 'ada', 1, 8, 'default', 0, 1796009833223237, 3, 'retry', 0, 0, 0, '[1796009833315917,1,100.0,"Write",2,2,"8 sections",0.0]', 1796009833223237, 1796009833315917, 4949609833315917, NULL, NULL, 200, 'application/json', 21, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '1f276fd9b571f4ca6faf24dc7592fd2c8cacadc97abe8bb5df19a7a2fb8a031e', '56030bf91bf156f8ed2d15b4a788aef8a35d4145817beda7bf9b327b686d5a76', 1);
INSERT INTO public.bgtasks_tasks VALUES ('ad0f4b7c-7e6e-4973-bb0d-8e3c0294a50b', 'fail', 'view', 1796009833388326, 1796009833438456, 3153600000000000, 'shop', 'failed', 'ada', 1, 3, 'default', 0, 1796009833388326, 3, 'retry', 0, 0, 0, NULL, 1796009833406436, 1796009833438456, 4949609833438456, 'out of paper', 'UnprocessableEntity', 422, 'text/html; charset=utf-8', 121, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '4c257830050671a30e94f65580cd8cc3acf3854be03b5d70274f24a9a5678e48', '07f5295ed7d42c86d1486c6ffd627e57edf6f0dfa0f8b24bf347797755219dea', 2);
INSERT INTO public.bgtasks_tasks VALUES ('17553b26-712d-484b-a716-2980bf3d2db9', 'draw', 'view', 1796009833539344, 1796009833577993, 3153600000000000, 'shop', 'processing', 'ada', 1, 9, 'default', 0, 1796009833539344, 3, 'retry', 0, 0, 0, '[1796009833576215,1,50.0,"Ink",2,2,null,null]', 1796009833539344, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'another-host:22953:c1b0aad8.4026531836:1496366', 1796009863539344, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'da23d2e906d986d5db54494d59fcd5b7a7ade03ec83ce1e18777b2d9df51bad2', 'b8bf0d42581533794cd4fbd32ce701c5ceb8cf1407dd98a6dece5550364a2f42', 3);
INSERT INTO public.bgtasks_tasks VALUES ('2638497c-0457-403f-8bd8-3fc5f697ed6c', 'write', 'view', 1796009833607283, 1796009833637250, 3153600000000000, 'shop', 'cancelled', 'ada', 0, 2, 'default', 0, 1796009833607283, 3, 'retry', 0, 0, 0, NULL, NULL, 1796009833637250, 4949609833637250, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1796009833637250, NULL, NULL, NULL, NULL, NULL, NULL, 'fb8f347b57777f5490aab45d833f64aae599c277f36d035bcc7da70e727751eb', '65154a6f73438f576dd37fcd865483b5fe81c6ecb8bfc24785f3e51d9b866bb4', 4);
INSERT INTO public.bgtasks_tasks VALUES ('6cfde9c8-1ad5-41de-a3b7-7aa2dbb5a94f', 'write', 'view', 1796009833687047, 1796009833687047, 3153600000000000, 'shop', 'started', 'ada', 0, 1, 'default', 0, 1796009833687047, 3, 'retry', 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '50b32a16ac9d820f5c1371317cdba16e24aceae4098a3189d33f8c926866eebc', '0db35760c400ac3c29c0c880ffd1ac57bfb442009070af34e4e3a7541d8d4885', 5);
SELECT pg_catalog.setval('public.bgtasks_deliveries_id_seq', 11, true);
SELECT pg_catalog.setval('public.bgtasks_tasks_number_seq', 5, true);
ALTER TABLE ONLY public.bgtasks_deliveries
    ADD CONSTRAINT bgtasks_deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.bgtasks_devices
    ADD CONSTRAINT bgtasks_devices_pkey PRIMARY KEY (app_id, id);
ALTER TABLE ONLY public.bgtasks_durations
    ADD CONSTRAINT bgtasks_durations_pkey PRIMARY KEY (app, name, step);
ALTER TABLE ONLY public.bgtasks_events
    ADD CONSTRAINT bgtasks_events_pkey PRIMARY KEY (task, seq);
ALTER TABLE ONLY public.bgtasks_marks
    ADD CONSTRAINT bgtasks_marks_pkey PRIMARY KEY (app, key);
ALTER TABLE ONLY public.bgtasks_meta
    ADD CONSTRAINT bgtasks_meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.bgtasks_payloads
    ADD CONSTRAINT bgtasks_payloads_pkey PRIMARY KEY (task, part);
ALTER TABLE ONLY public.bgtasks_preferences
    ADD CONSTRAINT bgtasks_preferences_pkey PRIMARY KEY (app, owner);
ALTER TABLE ONLY public.bgtasks_tasks
    ADD CONSTRAINT bgtasks_tasks_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.bgtasks_tasks
    ADD CONSTRAINT bgtasks_tasks_request_id_key UNIQUE (request_id);
CREATE INDEX bgtasks_deliveries_appless ON public.bgtasks_deliveries USING btree (id) WHERE (length(app) = 0);
CREATE INDEX bgtasks_deliveries_dead ON public.bgtasks_deliveries USING btree (app, id) WHERE (dead = 1);
CREATE INDEX bgtasks_deliveries_leased ON public.bgtasks_deliveries USING btree (app, worker) WHERE (worker IS NOT NULL);
CREATE INDEX bgtasks_deliveries_owed ON public.bgtasks_deliveries USING btree (app, sink, due_at, id) WHERE (dead = 0);
CREATE INDEX bgtasks_deliveries_task ON public.bgtasks_deliveries USING btree (request_id, sink, channel, id);
CREATE INDEX bgtasks_devices_installation ON public.bgtasks_devices USING btree (installation) WHERE (installation IS NOT NULL);
CREATE INDEX bgtasks_devices_owner ON public.bgtasks_devices USING btree (app_id, owner, seen_at) WHERE (request_id IS NULL);
CREATE INDEX bgtasks_devices_seen ON public.bgtasks_devices USING btree (seen_at);
CREATE INDEX bgtasks_devices_task ON public.bgtasks_devices USING btree (request_id) WHERE (request_id IS NOT NULL);
CREATE INDEX bgtasks_tasks_appless ON public.bgtasks_tasks USING btree (number) WHERE (length(app) = 0);
CREATE INDEX bgtasks_tasks_failed ON public.bgtasks_tasks USING btree (app, name, completed_at) WHERE (status = 'failed'::text);
CREATE INDEX bgtasks_tasks_leases ON public.bgtasks_tasks USING btree (app, lease_until, name, worker) WHERE (status = 'processing'::text);
CREATE INDEX bgtasks_tasks_newest ON public.bgtasks_tasks USING btree (app, owner, created_at, request_id) WHERE (owner IS NOT NULL);
CREATE INDEX bgtasks_tasks_over ON public.bgtasks_tasks USING btree (((expire_at + expires_after))) WHERE (expire_at IS NOT NULL);
CREATE INDEX bgtasks_tasks_queue ON public.bgtasks_tasks USING btree (status, app, place, name, queue) WHERE (status = 'started'::text);
CREATE UNIQUE INDEX bgtasks_tasks_scope ON public.bgtasks_tasks USING btree (app, idempotency_scope) WHERE (idempotency_scope IS NOT NULL);
CREATE INDEX bgtasks_tasks_waiting ON public.bgtasks_tasks USING btree (status, app, owner) WHERE (status = 'started'::text);
