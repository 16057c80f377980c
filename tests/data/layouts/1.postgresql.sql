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
    leased_until bigint
);
CREATE SEQUENCE public.bgtasks_deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.bgtasks_deliveries_id_seq OWNED BY public.bgtasks_deliveries.id;
CREATE TABLE public.bgtasks_durations (
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
CREATE TABLE public.bgtasks_tasks (
    request_id character varying(36) NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    expires_after bigint NOT NULL,
    status text NOT NULL,
    owner text,
    attempt integer NOT NULL,
    seq integer NOT NULL,
    queue text NOT NULL,
    priority integer NOT NULL,
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
    user_token text,
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
INSERT INTO public.bgtasks_deliveries VALUES (2, 'phone', 'event', '038e06ae-177b-4d21-9b63-aa6149bb1e65', 2, NULL, 0, 1796009641945023, 1796009641945023, 0, NULL, NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (3, 'phone', 'event', '038e06ae-177b-4d21-9b63-aa6149bb1e65', 9, NULL, 0, 1796009642417523, 1796009642417523, 0, NULL, NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (4, 'phone', 'event', 'ffa0ab09-ca3e-47a3-80ae-96edb4ae5100', 1, NULL, 1, 1796009642563828, 1796009642563828, 1, 'Undeliverable: the phone takes no failures', NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (5, 'phone', 'event', 'ffa0ab09-ca3e-47a3-80ae-96edb4ae5100', 2, NULL, 1, 1796009642595212, 1796009642595212, 1, 'Undeliverable: the phone takes no failures', NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (6, 'phone', 'event', 'ffa0ab09-ca3e-47a3-80ae-96edb4ae5100', 3, NULL, 1, 1796009642893466, 1796009642893466, 1, 'Undeliverable: the phone takes no failures', NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (8, 'phone', 'event', 'f146cc89-4f10-4bd6-9638-abb620d2f954', 2, NULL, 0, 1796009643123857, 1796009643123857, 0, NULL, NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (7, 'phone', 'event', 'f146cc89-4f10-4bd6-9638-abb620d2f954', 1, NULL, 1, 1796009643063554, 1796009644517922, 0, 'RetryLater: the phone is off', NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (10, 'phone', 'event', '9a1dd597-6873-4a08-bd93-1b713fe68069', 2, NULL, 0, 1796009643367849, 1796009643367849, 0, NULL, NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (9, 'phone', 'event', '9a1dd597-6873-4a08-bd93-1b713fe68069', 1, NULL, 0, 1796009643289425, 1796009643289425, 0, NULL, 'another-host:17758:45f81153', 1796009703371893);
INSERT INTO public.bgtasks_deliveries VALUES (11, 'phone', 'event', '828ca87e-e120-4870-b136-362d959b26fe', 1, NULL, 0, 1796009643463901, 1796009643463901, 0, NULL, NULL, NULL);
INSERT INTO public.bgtasks_deliveries VALUES (1, 'phone', 'event', '038e06ae-177b-4d21-9b63-aa6149bb1e65', 1, NULL, 2, 1796009641388173, 1796009645826024, 0, 'RetryLater: the phone is off', NULL, NULL);
INSERT INTO public.bgtasks_durations VALUES ('write', 'Outline', 0, 1, 0.005832716000440996);
INSERT INTO public.bgtasks_durations VALUES ('write', 'Write', 1, 1, 0.03225822099921061);
INSERT INTO public.bgtasks_events VALUES (1, 1, 'accepted', 1796009641388173, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_events VALUES (1, 2, 'started', 1796009641945023, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (1, 3, 'step_started', 1796009642187071, 1, '{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (1, 4, 'step_finished', 1796009642303555, 1, '{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null,"seconds":0.006}');
INSERT INTO public.bgtasks_events VALUES (1, 5, 'step_started', 1796009642306399, 1, '{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections"}');
INSERT INTO public.bgtasks_events VALUES (1, 6, 'output', 1796009642335202, 1, '{"offset":0,"chunks":["Once upon a time"]}');
INSERT INTO public.bgtasks_events VALUES (1, 7, 'step_finished', 1796009642339702, 1, '{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections","seconds":0.032}');
INSERT INTO public.bgtasks_events VALUES (1, 8, 'progress', 1796009642341471, 1, '{"step":"Write","step_number":2,"total_steps":2,"details":"8 sections","progress_percentage":100.0,"eta_seconds":0.0}');
INSERT INTO public.bgtasks_events VALUES (1, 9, 'completed', 1796009642417523, 1, '{"progress_percentage":100.0}');
INSERT INTO public.bgtasks_events VALUES (2, 1, 'accepted', 1796009642563828, 0, '{"name":"fail"}');
INSERT INTO public.bgtasks_events VALUES (2, 2, 'started', 1796009642595212, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (2, 3, 'failed', 1796009642893466, 1, '{"error_message":"out of paper","progress_percentage":0.0}');
INSERT INTO public.bgtasks_events VALUES (3, 1, 'accepted', 1796009643063554, 0, '{"name":"draw"}');
INSERT INTO public.bgtasks_events VALUES (3, 2, 'started', 1796009643123857, 1, '{}');
INSERT INTO public.bgtasks_events VALUES (3, 3, 'step_started', 1796009643207760, 1, '{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (3, 4, 'progress', 1796009643220486, 1, '{"step":"Sketch","step_number":1,"total_steps":2,"details":null,"progress_percentage":0.0,"eta_seconds":null}');
INSERT INTO public.bgtasks_events VALUES (3, 5, 'step_finished', 1796009643223751, 1, '{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null,"seconds":0.043}');
INSERT INTO public.bgtasks_events VALUES (3, 6, 'step_started', 1796009643231129, 1, '{"step":"Ink","path":["Ink"],"step_number":2,"total_steps":2,"details":null}');
INSERT INTO public.bgtasks_events VALUES (3, 7, 'progress', 1796009643267903, 1, '{"step":"Ink","step_number":2,"total_steps":2,"details":null,"progress_percentage":50.0,"eta_seconds":null}');
INSERT INTO public.bgtasks_events VALUES (4, 1, 'accepted', 1796009643289425, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_events VALUES (4, 2, 'cancelled', 1796009643367849, 0, '{"progress_percentage":0.0}');
INSERT INTO public.bgtasks_events VALUES (5, 1, 'accepted', 1796009643463901, 0, '{"name":"write"}');
INSERT INTO public.bgtasks_meta VALUES ('version', '1');
INSERT INTO public.bgtasks_payloads VALUES (1, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c2274657874223a227b5c22746578745c223a205c22636f6d706c657465645c227d227d');
INSERT INTO public.bgtasks_payloads VALUES (1, 'result', '[200,"application/json",[]]', '\x7b2274657874223a22636f6d706c65746564227d0a');
INSERT INTO public.bgtasks_payloads VALUES (2, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f6661696c222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c2274657874223a227b7d227d');
INSERT INTO public.bgtasks_payloads VALUES (2, 'result', '[422,"text/html; charset=utf-8",[]]', '\x3c21646f63747970652068746d6c3e0a3c68746d6c206c616e673d656e3e0a3c7469746c653e34323220556e70726f6365737361626c6520456e746974793c2f7469746c653e0a3c68313e556e70726f6365737361626c6520456e746974793c2f68313e0a3c703e6f7574206f662070617065723c2f703e0a');
INSERT INTO public.bgtasks_payloads VALUES (3, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f64726177222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c2274657874223a227b7d227d');
INSERT INTO public.bgtasks_payloads VALUES (4, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c2274657874223a227b5c22746578745c223a205c2263616e63656c6c65645c227d227d');
INSERT INTO public.bgtasks_payloads VALUES (5, 'input', NULL, '\x7b226d6574686f64223a22504f5354222c22736368656d65223a2268747470222c22686f7374223a226c6f63616c686f7374222c22726f6f745f70617468223a22222c2270617468223a222f7772697465222c227175657279223a22222c2268656164657273223a5b5b22557365722d4167656e74222c225765726b7a6575672f332e312e39225d2c5b22436f6e74656e742d54797065222c226170706c69636174696f6e2f6a736f6e225d5d2c2274657874223a227b5c22746578745c223a205c2277616974696e675c227d227d');
INSERT INTO public.bgtasks_tasks VALUES ('038e06ae-177b-4d21-9b63-aa6149bb1e65', 'write', 'view', 1796009641388173, 1796009642417523, 3153600000000000, 'completed', 'ada', 1, 9, 'default', 0, '[1796009642417523,1,100.0,"Write",2,2,"8 sections",0.0]', 1796009641945023, 1796009642417523, 4949609642417523, NULL, NULL, 200, 'application/json', 21, NULL, NULL, NULL, NULL, NULL, NULL, '1f276fd9b571f4ca6faf24dc7592fd2c8cacadc97abe8bb5df19a7a2fb8a031e', '56030bf91bf156f8ed2d15b4a788aef8a35d4145817beda7bf9b327b686d5a76', 1);
INSERT INTO public.bgtasks_tasks VALUES ('ffa0ab09-ca3e-47a3-80ae-96edb4ae5100', 'fail', 'view', 1796009642563828, 1796009642893466, 3153600000000000, 'failed', 'ada', 1, 3, 'default', 0, NULL, 1796009642595212, 1796009642893466, 4949609642893466, 'out of paper', 'UnprocessableEntity', 422, 'text/html; charset=utf-8', 121, NULL, NULL, NULL, NULL, NULL, NULL, '4c257830050671a30e94f65580cd8cc3acf3854be03b5d70274f24a9a5678e48', '07f5295ed7d42c86d1486c6ffd627e57edf6f0dfa0f8b24bf347797755219dea', 2);
INSERT INTO public.bgtasks_tasks VALUES ('f146cc89-4f10-4bd6-9638-abb620d2f954', 'draw', 'view', 1796009643063554, 1796009643297471, 3153600000000000, 'processing', 'ada', 1, 7, 'default', 0, '[1796009643267903,1,50.0,"Ink",2,2,null,null]', 1796009643123857, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'another-host:17758', 1796009673123857, NULL, NULL, NULL, NULL, 'da23d2e906d986d5db54494d59fcd5b7a7ade03ec83ce1e18777b2d9df51bad2', 'b8bf0d42581533794cd4fbd32ce701c5ceb8cf1407dd98a6dece5550364a2f42', 3);
INSERT INTO public.bgtasks_tasks VALUES ('9a1dd597-6873-4a08-bd93-1b713fe68069', 'write', 'view', 1796009643289425, 1796009643367849, 3153600000000000, 'cancelled', 'ada', 0, 2, 'default', 0, NULL, NULL, 1796009643367849, 4949609643367849, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1796009643367849, NULL, NULL, NULL, 'fb8f347b57777f5490aab45d833f64aae599c277f36d035bcc7da70e727751eb', '65154a6f73438f576dd37fcd865483b5fe81c6ecb8bfc24785f3e51d9b866bb4', 4);
INSERT INTO public.bgtasks_tasks VALUES ('828ca87e-e120-4870-b136-362d959b26fe', 'write', 'view', 1796009643463901, 1796009643463901, 3153600000000000, 'started', 'ada', 0, 1, 'default', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '50b32a16ac9d820f5c1371317cdba16e24aceae4098a3189d33f8c926866eebc', '0db35760c400ac3c29c0c880ffd1ac57bfb442009070af34e4e3a7541d8d4885', 5);
SELECT pg_catalog.setval('public.bgtasks_deliveries_id_seq', 11, true);
SELECT pg_catalog.setval('public.bgtasks_tasks_number_seq', 5, true);
ALTER TABLE ONLY public.bgtasks_deliveries
    ADD CONSTRAINT bgtasks_deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.bgtasks_durations
    ADD CONSTRAINT bgtasks_durations_pkey PRIMARY KEY (name, step);
ALTER TABLE ONLY public.bgtasks_events
    ADD CONSTRAINT bgtasks_events_pkey PRIMARY KEY (task, seq);
ALTER TABLE ONLY public.bgtasks_meta
    ADD CONSTRAINT bgtasks_meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.bgtasks_payloads
    ADD CONSTRAINT bgtasks_payloads_pkey PRIMARY KEY (task, part);
ALTER TABLE ONLY public.bgtasks_tasks
    ADD CONSTRAINT bgtasks_tasks_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.bgtasks_tasks
    ADD CONSTRAINT bgtasks_tasks_request_id_key UNIQUE (request_id);
CREATE INDEX bgtasks_deliveries_dead ON public.bgtasks_deliveries USING btree (id) WHERE (dead = 1);
CREATE INDEX bgtasks_deliveries_owed ON public.bgtasks_deliveries USING btree (sink, id) WHERE (dead = 0);
CREATE INDEX bgtasks_deliveries_task ON public.bgtasks_deliveries USING btree (request_id, sink, id);
CREATE INDEX bgtasks_tasks_expire ON public.bgtasks_tasks USING btree (expire_at) WHERE (expire_at IS NOT NULL);
CREATE INDEX bgtasks_tasks_leases ON public.bgtasks_tasks USING btree (lease_until) WHERE (status = 'processing'::text);
CREATE INDEX bgtasks_tasks_newest ON public.bgtasks_tasks USING btree (owner, created_at, request_id) WHERE (owner IS NOT NULL);
CREATE UNIQUE INDEX bgtasks_tasks_scope ON public.bgtasks_tasks USING btree (idempotency_scope) WHERE (idempotency_scope IS NOT NULL);
CREATE INDEX bgtasks_tasks_waiting ON public.bgtasks_tasks USING btree (status, owner) WHERE (status = 'started'::text);
