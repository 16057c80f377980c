BEGIN TRANSACTION;
CREATE TABLE bgtasks_deliveries (
	id INTEGER NOT NULL, 
	sink TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	request_id VARCHAR(36), 
	seq INTEGER NOT NULL, 
	payload TEXT, 
	tries INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	due_at BIGINT NOT NULL, 
	dead INTEGER NOT NULL, 
	error TEXT, 
	worker TEXT, 
	leased_until BIGINT, 
	channel TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "bgtasks_deliveries" VALUES(1,'phone','event','01041b05-d7a8-463f-a1ed-d11bd8e95ae0',1,NULL,1,1796009663224763,1796009664514562,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(2,'phone','event','01041b05-d7a8-463f-a1ed-d11bd8e95ae0',2,NULL,0,1796009663301419,1796009663301419,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(3,'phone','event','01041b05-d7a8-463f-a1ed-d11bd8e95ae0',8,NULL,0,1796009663328594,1796009663328594,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(4,'phone','event','b7ee0733-0d07-4db9-b4cb-73c55918e613',1,NULL,1,1796009663349741,1796009663349741,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(5,'phone','event','b7ee0733-0d07-4db9-b4cb-73c55918e613',2,NULL,1,1796009663357016,1796009663357016,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(6,'phone','event','b7ee0733-0d07-4db9-b4cb-73c55918e613',3,NULL,1,1796009663364286,1796009663364286,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(7,'phone','event','13c058ec-a60f-4207-80a0-4c9b9f99ecdc',1,NULL,1,1796009663442877,1796009664575363,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(8,'phone','event','13c058ec-a60f-4207-80a0-4c9b9f99ecdc',2,NULL,0,1796009663454425,1796009663454425,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(9,'phone','event','e9608d91-f4c5-4939-8a37-539fe03fcfec',1,NULL,1,1796009663476927,1796009664347831,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(10,'phone','event','e9608d91-f4c5-4939-8a37-539fe03fcfec',2,NULL,0,1796009663495112,1796009663495112,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(11,'phone','event','c96f1c69-a818-4e46-80ee-1cdc505b9145',1,NULL,1,1796009663503737,1796009664958425,0,'RetryLater: the phone is off',NULL,NULL,'');
CREATE TABLE bgtasks_devices (
	id VARCHAR(32) NOT NULL, 
	kind TEXT NOT NULL, 
	value TEXT NOT NULL, 
	owner TEXT, 
	platform TEXT, 
	app TEXT, 
	lang TEXT, 
	request_id VARCHAR(36), 
	details TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	seen_at BIGINT NOT NULL, 
	installation TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "bgtasks_devices" VALUES('752236431624c5614ca4e368c017ce6e','fcm_token','token-of-ada','ada','ios','studio','en',NULL,'{}',1796009663398507,1796009663398507,NULL);
CREATE TABLE bgtasks_durations (
	name TEXT NOT NULL, 
	step TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	runs INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (name, step)
);
INSERT INTO "bgtasks_durations" VALUES('write','Outline',0,1,8.44490004965337e-05);
INSERT INTO "bgtasks_durations" VALUES('write','Write',1,1,3.47750010405434295535e-05);
CREATE TABLE bgtasks_events (
	task INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	type TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	data TEXT NOT NULL, 
	PRIMARY KEY (task, seq)
)
 WITHOUT ROWID

;
INSERT INTO "bgtasks_events" VALUES(1,1,'accepted',1796009663224763,0,'{"name":"write"}');
INSERT INTO "bgtasks_events" VALUES(1,2,'started',1796009663301419,1,'{}');
INSERT INTO "bgtasks_events" VALUES(1,3,'step_started',1796009663324780,1,'{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(1,4,'step_finished',1796009663324844,1,'{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null,"seconds":0.0}');
INSERT INTO "bgtasks_events" VALUES(1,5,'step_started',1796009663324869,1,'{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections"}');
INSERT INTO "bgtasks_events" VALUES(1,6,'output',1796009663324886,1,'{"offset":0,"chunks":["Once upon a time"]}');
INSERT INTO "bgtasks_events" VALUES(1,7,'step_finished',1796009663324903,1,'{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections","seconds":0.0}');
INSERT INTO "bgtasks_events" VALUES(1,8,'completed',1796009663328594,1,'{"progress_percentage":100.0}');
INSERT INTO "bgtasks_events" VALUES(2,1,'accepted',1796009663349741,0,'{"name":"fail"}');
INSERT INTO "bgtasks_events" VALUES(2,2,'started',1796009663357016,1,'{}');
INSERT INTO "bgtasks_events" VALUES(2,3,'failed',1796009663364286,1,'{"error_message":"out of paper","progress_percentage":0.0}');
INSERT INTO "bgtasks_events" VALUES(3,1,'accepted',1796009663442877,0,'{"name":"draw"}');
INSERT INTO "bgtasks_events" VALUES(3,2,'started',1796009663454425,1,'{}');
INSERT INTO "bgtasks_events" VALUES(3,3,'step_started',1796009663460156,1,'{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,4,'step_started',1796009663462251,1,'{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,5,'step_finished',1796009663462536,1,'{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null,"seconds":0.0,"checkpoint":true}');
INSERT INTO "bgtasks_events" VALUES(3,6,'progress',1796009663462652,1,'{"step":"Sketch","step_number":1,"total_steps":2,"details":null,"progress_percentage":25.0,"eta_seconds":null}');
INSERT INTO "bgtasks_events" VALUES(3,7,'step_finished',1796009663468657,1,'{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null,"seconds":0.009}');
INSERT INTO "bgtasks_events" VALUES(3,8,'step_started',1796009663468749,1,'{"step":"Ink","path":["Ink"],"step_number":2,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,9,'progress',1796009663484167,1,'{"step":"Ink","step_number":2,"total_steps":2,"details":null,"progress_percentage":50.0,"eta_seconds":null}');
INSERT INTO "bgtasks_events" VALUES(4,1,'accepted',1796009663476927,0,'{"name":"write"}');
INSERT INTO "bgtasks_events" VALUES(4,2,'cancelled',1796009663495112,0,'{"progress_percentage":0.0}');
INSERT INTO "bgtasks_events" VALUES(5,1,'accepted',1796009663503737,0,'{"name":"write"}');
CREATE TABLE bgtasks_marks (
	"key" TEXT NOT NULL, 
	until BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE bgtasks_meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "bgtasks_meta" VALUES('version','3');
CREATE TABLE bgtasks_payloads (
	task INTEGER NOT NULL, 
	part TEXT NOT NULL, 
	head TEXT, 
	body BLOB NOT NULL, 
	PRIMARY KEY (task, part)
)
 WITHOUT ROWID

;
INSERT INTO "bgtasks_payloads" VALUES(1,'input',NULL,X'7B226D6574686F64223A22504F5354222C22736368656D65223A2268747470222C22686F7374223A226C6F63616C686F7374222C22726F6F745F70617468223A22222C2270617468223A222F7772697465222C227175657279223A22222C2268656164657273223A5B5B22557365722D4167656E74222C225765726B7A6575672F332E312E39225D2C5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D5D2C2274657874223A227B5C22746578745C223A205C22636F6D706C657465645C227D227D');
INSERT INTO "bgtasks_payloads" VALUES(1,'result','[200,"application/json",[]]',X'7B2274657874223A22636F6D706C65746564227D0A');
INSERT INTO "bgtasks_payloads" VALUES(2,'input',NULL,X'7B226D6574686F64223A22504F5354222C22736368656D65223A2268747470222C22686F7374223A226C6F63616C686F7374222C22726F6F745F70617468223A22222C2270617468223A222F6661696C222C227175657279223A22222C2268656164657273223A5B5B22557365722D4167656E74222C225765726B7A6575672F332E312E39225D2C5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D5D2C2274657874223A227B7D227D');
INSERT INTO "bgtasks_payloads" VALUES(2,'result','[422,"text/html; charset=utf-8",[]]',X'3C21646F63747970652068746D6C3E0A3C68746D6C206C616E673D656E3E0A3C7469746C653E34323220556E70726F6365737361626C6520456E746974793C2F7469746C653E0A3C68313E556E70726F6365737361626C6520456E746974793C2F68313E0A3C703E6F7574206F662070617065723C2F703E0A');
INSERT INTO "bgtasks_payloads" VALUES(3,'checkpoint:4b92255ad0d7b2154c67ad1c0db799a0','{"path":["Sketch","sketch"],"place":1,"alone":true}',X'5B7B226C696E6573223A20337D2C5B5D5D');
INSERT INTO "bgtasks_payloads" VALUES(3,'input',NULL,X'7B226D6574686F64223A22504F5354222C22736368656D65223A2268747470222C22686F7374223A226C6F63616C686F7374222C22726F6F745F70617468223A22222C2270617468223A222F64726177222C227175657279223A22222C2268656164657273223A5B5B22557365722D4167656E74222C225765726B7A6575672F332E312E39225D2C5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D5D2C2274657874223A227B7D227D');
INSERT INTO "bgtasks_payloads" VALUES(4,'input',NULL,X'7B226D6574686F64223A22504F5354222C22736368656D65223A2268747470222C22686F7374223A226C6F63616C686F7374222C22726F6F745F70617468223A22222C2270617468223A222F7772697465222C227175657279223A22222C2268656164657273223A5B5B22557365722D4167656E74222C225765726B7A6575672F332E312E39225D2C5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D5D2C2274657874223A227B5C22746578745C223A205C2263616E63656C6C65645C227D227D');
INSERT INTO "bgtasks_payloads" VALUES(5,'input',NULL,X'7B226D6574686F64223A22504F5354222C22736368656D65223A2268747470222C22686F7374223A226C6F63616C686F7374222C22726F6F745F70617468223A22222C2270617468223A222F7772697465222C227175657279223A22222C2268656164657273223A5B5B22557365722D4167656E74222C225765726B7A6575672F332E312E39225D2C5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D5D2C2274657874223A227B5C22746578745C223A205C2277616974696E675C227D227D');
CREATE TABLE bgtasks_preferences (
	owner TEXT NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (owner)
);
INSERT INTO "bgtasks_preferences" VALUES('ada','{"kinds":["failed"],"quiet_hours":null,"muted":[]}');
CREATE TABLE bgtasks_tasks (
	request_id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	expires_after BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	owner TEXT, 
	attempt INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	queue TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	place BIGINT, 
	max_attempts INTEGER DEFAULT '3' NOT NULL, 
	on_interrupt TEXT DEFAULT 'retry' NOT NULL, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	crashes INTEGER DEFAULT '0' NOT NULL, 
	progress TEXT, 
	started_at BIGINT, 
	completed_at BIGINT, 
	expire_at BIGINT, 
	error_message TEXT, 
	error_type TEXT, 
	result_status INTEGER, 
	result_type TEXT, 
	result_size BIGINT, 
	worker TEXT, 
	lease_until BIGINT, 
	cancel_requested_at BIGINT, 
	seen_at BIGINT, 
	seen_via TEXT, 
	told_at BIGINT, 
	muted_at BIGINT, 
	user_token TEXT, 
	idempotency_scope TEXT, 
	fingerprint TEXT, 
	number INTEGER NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (request_id)
);
INSERT INTO "bgtasks_tasks" VALUES('01041b05-d7a8-463f-a1ed-d11bd8e95ae0','write','view',1796009663224763,1796009663328594,3153600000000000,'completed','ada',1,8,'default',0,1796009663224763,3,'retry',0,0,'[1796009663328594,1,100.0,"Write",2,2,"8 sections",0.0]',1796009663301419,1796009663328594,4949609663328594,NULL,NULL,200,'application/json',21,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'1f276fd9b571f4ca6faf24dc7592fd2c8cacadc97abe8bb5df19a7a2fb8a031e','56030bf91bf156f8ed2d15b4a788aef8a35d4145817beda7bf9b327b686d5a76',1);
INSERT INTO "bgtasks_tasks" VALUES('b7ee0733-0d07-4db9-b4cb-73c55918e613','fail','view',1796009663349741,1796009663364286,3153600000000000,'failed','ada',1,3,'default',0,1796009663349741,3,'retry',0,0,NULL,1796009663357016,1796009663364286,4949609663364286,'out of paper','UnprocessableEntity',422,'text/html; charset=utf-8',121,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'4c257830050671a30e94f65580cd8cc3acf3854be03b5d70274f24a9a5678e48','07f5295ed7d42c86d1486c6ffd627e57edf6f0dfa0f8b24bf347797755219dea',2);
INSERT INTO "bgtasks_tasks" VALUES('13c058ec-a60f-4207-80a0-4c9b9f99ecdc','draw','view',1796009663442877,1796009663484696,3153600000000000,'processing','ada',1,9,'default',0,1796009663442877,3,'retry',0,0,'[1796009663484167,1,50.0,"Ink",2,2,null,null]',1796009663454425,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'another-host:18557:c1b0aad8.4026531836:1479818',1796009693454425,NULL,NULL,NULL,NULL,NULL,NULL,'da23d2e906d986d5db54494d59fcd5b7a7ade03ec83ce1e18777b2d9df51bad2','b8bf0d42581533794cd4fbd32ce701c5ceb8cf1407dd98a6dece5550364a2f42',3);
INSERT INTO "bgtasks_tasks" VALUES('e9608d91-f4c5-4939-8a37-539fe03fcfec','write','view',1796009663476927,1796009663495112,3153600000000000,'cancelled','ada',0,2,'default',0,1796009663476927,3,'retry',0,0,NULL,NULL,1796009663495112,4949609663495112,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1796009663495112,NULL,NULL,NULL,NULL,NULL,'fb8f347b57777f5490aab45d833f64aae599c277f36d035bcc7da70e727751eb','65154a6f73438f576dd37fcd865483b5fe81c6ecb8bfc24785f3e51d9b866bb4',4);
INSERT INTO "bgtasks_tasks" VALUES('c96f1c69-a818-4e46-80ee-1cdc505b9145','write','view',1796009663503737,1796009663503737,3153600000000000,'started','ada',0,1,'default',0,1796009663503737,3,'retry',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'50b32a16ac9d820f5c1371317cdba16e24aceae4098a3189d33f8c926866eebc','0db35760c400ac3c29c0c880ffd1ac57bfb442009070af34e4e3a7541d8d4885',5);
CREATE INDEX bgtasks_deliveries_owed ON bgtasks_deliveries (sink, due_at, id) WHERE dead = 0;
CREATE INDEX bgtasks_deliveries_task ON bgtasks_deliveries (request_id, sink, channel, id);
CREATE INDEX bgtasks_deliveries_dead ON bgtasks_deliveries (id) WHERE dead = 1;
CREATE INDEX bgtasks_deliveries_leased ON bgtasks_deliveries (worker) WHERE worker IS NOT NULL;
CREATE INDEX bgtasks_devices_seen ON bgtasks_devices (seen_at);
CREATE INDEX bgtasks_devices_task ON bgtasks_devices (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX bgtasks_devices_installation ON bgtasks_devices (installation) WHERE installation IS NOT NULL;
CREATE INDEX bgtasks_devices_owner ON bgtasks_devices (owner, seen_at) WHERE request_id IS NULL;
CREATE INDEX bgtasks_tasks_leases ON bgtasks_tasks (lease_until, name, worker) WHERE status = 'processing';
CREATE INDEX bgtasks_tasks_failed ON bgtasks_tasks (name, completed_at) WHERE status = 'failed';
CREATE INDEX bgtasks_tasks_waiting ON bgtasks_tasks (status, owner) WHERE status = 'started';
CREATE INDEX bgtasks_tasks_queue ON bgtasks_tasks (status, place, name, queue) WHERE status = 'started';
CREATE UNIQUE INDEX bgtasks_tasks_scope ON bgtasks_tasks (idempotency_scope) WHERE idempotency_scope IS NOT NULL;
CREATE INDEX bgtasks_tasks_newest ON bgtasks_tasks (owner, created_at, request_id) WHERE owner IS NOT NULL;
CREATE INDEX bgtasks_tasks_over ON bgtasks_tasks (expire_at + expires_after) WHERE expire_at IS NOT NULL;
COMMIT;
