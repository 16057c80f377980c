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
INSERT INTO "bgtasks_deliveries" VALUES(1,'phone','event','58ac1e90-362c-4dc2-bdc3-44f6635c1619',1,NULL,1,1796009669388394,1796009670805743,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(2,'phone','event','58ac1e90-362c-4dc2-bdc3-44f6635c1619',2,NULL,0,1796009669447971,1796009669447971,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(3,'phone','event','58ac1e90-362c-4dc2-bdc3-44f6635c1619',8,NULL,0,1796009669482129,1796009669482129,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(4,'phone','event','de69d186-e466-484b-8808-de890e1c1222',1,NULL,1,1796009669501309,1796009669501309,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(5,'phone','event','de69d186-e466-484b-8808-de890e1c1222',2,NULL,1,1796009669518782,1796009669518782,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(6,'phone','event','de69d186-e466-484b-8808-de890e1c1222',3,NULL,1,1796009669522405,1796009669522405,1,'Undeliverable: the phone takes no failures',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(7,'phone','event','4f3d1778-b2ee-4476-bc8d-7f2a91cbb305',1,NULL,1,1796009669570161,1796009670706784,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(8,'phone','event','4f3d1778-b2ee-4476-bc8d-7f2a91cbb305',2,NULL,0,1796009669578447,1796009669578447,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(9,'phone','event','28c3ae13-2bac-473c-8cef-7d2e0d44c2df',1,NULL,1,1796009669609679,1796009670496444,0,'RetryLater: the phone is off',NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(10,'phone','event','28c3ae13-2bac-473c-8cef-7d2e0d44c2df',2,NULL,0,1796009669624737,1796009669624737,0,NULL,NULL,NULL,'');
INSERT INTO "bgtasks_deliveries" VALUES(11,'phone','event','7d511120-0912-47ee-8088-c441a19b30aa',1,NULL,1,1796009669640321,1796009670786123,0,'RetryLater: the phone is off',NULL,NULL,'');
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
INSERT INTO "bgtasks_devices" VALUES('752236431624c5614ca4e368c017ce6e','fcm_token','token-of-ada','ada','ios','studio','en',NULL,'{}',1796009669546012,1796009669546012,NULL);
CREATE TABLE bgtasks_durations (
	name TEXT NOT NULL, 
	step TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	runs INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (name, step)
);
INSERT INTO "bgtasks_durations" VALUES('write','Outline',0,1,1.5472100130864419043e-04);
INSERT INTO "bgtasks_durations" VALUES('write','Write',1,1,4.12970002798829227685e-05);
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
INSERT INTO "bgtasks_events" VALUES(1,1,'accepted',1796009669388394,0,'{"name":"write"}');
INSERT INTO "bgtasks_events" VALUES(1,2,'started',1796009669447971,1,'{}');
INSERT INTO "bgtasks_events" VALUES(1,3,'step_started',1796009669481014,1,'{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(1,4,'step_finished',1796009669481088,1,'{"step":"Outline","path":["Outline"],"step_number":1,"total_steps":2,"details":null,"seconds":0.0}');
INSERT INTO "bgtasks_events" VALUES(1,5,'step_started',1796009669481119,1,'{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections"}');
INSERT INTO "bgtasks_events" VALUES(1,6,'output',1796009669481139,1,'{"offset":0,"chunks":["Once upon a time"]}');
INSERT INTO "bgtasks_events" VALUES(1,7,'step_finished',1796009669481158,1,'{"step":"Write","path":["Write"],"step_number":2,"total_steps":2,"details":"8 sections","seconds":0.0}');
INSERT INTO "bgtasks_events" VALUES(1,8,'completed',1796009669482129,1,'{"progress_percentage":100.0}');
INSERT INTO "bgtasks_events" VALUES(2,1,'accepted',1796009669501309,0,'{"name":"fail"}');
INSERT INTO "bgtasks_events" VALUES(2,2,'started',1796009669518782,1,'{}');
INSERT INTO "bgtasks_events" VALUES(2,3,'failed',1796009669522405,1,'{"error_message":"out of paper","progress_percentage":0.0}');
INSERT INTO "bgtasks_events" VALUES(3,1,'accepted',1796009669570161,0,'{"name":"draw"}');
INSERT INTO "bgtasks_events" VALUES(3,2,'started',1796009669578447,1,'{}');
INSERT INTO "bgtasks_events" VALUES(3,3,'step_started',1796009669580198,1,'{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,4,'step_started',1796009669580264,1,'{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,5,'step_finished',1796009669580406,1,'{"step":"sketch","path":["Sketch","sketch"],"step_number":null,"total_steps":2,"details":null,"seconds":0.0,"checkpoint":true}');
INSERT INTO "bgtasks_events" VALUES(3,6,'progress',1796009669580532,1,'{"step":"Sketch","step_number":1,"total_steps":2,"details":null,"progress_percentage":25.0,"eta_seconds":null}');
INSERT INTO "bgtasks_events" VALUES(3,7,'step_finished',1796009669599989,1,'{"step":"Sketch","path":["Sketch"],"step_number":1,"total_steps":2,"details":null,"seconds":0.02}');
INSERT INTO "bgtasks_events" VALUES(3,8,'step_started',1796009669600082,1,'{"step":"Ink","path":["Ink"],"step_number":2,"total_steps":2,"details":null}');
INSERT INTO "bgtasks_events" VALUES(3,9,'progress',1796009669604222,1,'{"step":"Ink","step_number":2,"total_steps":2,"details":null,"progress_percentage":50.0,"eta_seconds":null}');
INSERT INTO "bgtasks_events" VALUES(4,1,'accepted',1796009669609679,0,'{"name":"write"}');
INSERT INTO "bgtasks_events" VALUES(4,2,'cancelled',1796009669624737,0,'{"progress_percentage":0.0}');
INSERT INTO "bgtasks_events" VALUES(5,1,'accepted',1796009669640321,0,'{"name":"write"}');
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
INSERT INTO "bgtasks_meta" VALUES('version','4');
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
	token_note TEXT, 
	idempotency_scope TEXT, 
	fingerprint TEXT, 
	number INTEGER NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (request_id)
);
INSERT INTO "bgtasks_tasks" VALUES('58ac1e90-362c-4dc2-bdc3-44f6635c1619','write','view',1796009669388394,1796009669482129,3153600000000000,'completed','ada',1,8,'default',0,1796009669388394,3,'retry',0,0,'[1796009669482129,1,100.0,"Write",2,2,"8 sections",0.0]',1796009669447971,1796009669482129,4949609669482129,NULL,NULL,200,'application/json',21,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'1f276fd9b571f4ca6faf24dc7592fd2c8cacadc97abe8bb5df19a7a2fb8a031e','56030bf91bf156f8ed2d15b4a788aef8a35d4145817beda7bf9b327b686d5a76',1);
INSERT INTO "bgtasks_tasks" VALUES('de69d186-e466-484b-8808-de890e1c1222','fail','view',1796009669501309,1796009669522405,3153600000000000,'failed','ada',1,3,'default',0,1796009669501309,3,'retry',0,0,NULL,1796009669518782,1796009669522405,4949609669522405,'out of paper','UnprocessableEntity',422,'text/html; charset=utf-8',121,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'4c257830050671a30e94f65580cd8cc3acf3854be03b5d70274f24a9a5678e48','07f5295ed7d42c86d1486c6ffd627e57edf6f0dfa0f8b24bf347797755219dea',2);
INSERT INTO "bgtasks_tasks" VALUES('4f3d1778-b2ee-4476-bc8d-7f2a91cbb305','draw','view',1796009669570161,1796009669604582,3153600000000000,'processing','ada',1,9,'default',0,1796009669570161,3,'retry',0,0,'[1796009669604222,1,50.0,"Ink",2,2,null,null]',1796009669578447,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'another-host:18599:c1b0aad8.4026531836:1480583',1796009699578447,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'da23d2e906d986d5db54494d59fcd5b7a7ade03ec83ce1e18777b2d9df51bad2','b8bf0d42581533794cd4fbd32ce701c5ceb8cf1407dd98a6dece5550364a2f42',3);
INSERT INTO "bgtasks_tasks" VALUES('28c3ae13-2bac-473c-8cef-7d2e0d44c2df','write','view',1796009669609679,1796009669624737,3153600000000000,'cancelled','ada',0,2,'default',0,1796009669609679,3,'retry',0,0,NULL,NULL,1796009669624737,4949609669624737,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1796009669624737,NULL,NULL,NULL,NULL,NULL,NULL,'fb8f347b57777f5490aab45d833f64aae599c277f36d035bcc7da70e727751eb','65154a6f73438f576dd37fcd865483b5fe81c6ecb8bfc24785f3e51d9b866bb4',4);
INSERT INTO "bgtasks_tasks" VALUES('7d511120-0912-47ee-8088-c441a19b30aa','write','view',1796009669640321,1796009669640321,3153600000000000,'started','ada',0,1,'default',0,1796009669640321,3,'retry',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'50b32a16ac9d820f5c1371317cdba16e24aceae4098a3189d33f8c926866eebc','0db35760c400ac3c29c0c880ffd1ac57bfb442009070af34e4e3a7541d8d4885',5);
CREATE INDEX bgtasks_deliveries_owed ON bgtasks_deliveries (sink, due_at, id) WHERE dead = 0;
CREATE INDEX bgtasks_deliveries_dead ON bgtasks_deliveries (id) WHERE dead = 1;
CREATE INDEX bgtasks_deliveries_task ON bgtasks_deliveries (request_id, sink, channel, id);
CREATE INDEX bgtasks_deliveries_leased ON bgtasks_deliveries (worker) WHERE worker IS NOT NULL;
CREATE INDEX bgtasks_devices_installation ON bgtasks_devices (installation) WHERE installation IS NOT NULL;
CREATE INDEX bgtasks_devices_task ON bgtasks_devices (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX bgtasks_devices_owner ON bgtasks_devices (owner, seen_at) WHERE request_id IS NULL;
CREATE INDEX bgtasks_devices_seen ON bgtasks_devices (seen_at);
CREATE INDEX bgtasks_tasks_newest ON bgtasks_tasks (owner, created_at, request_id) WHERE owner IS NOT NULL;
CREATE INDEX bgtasks_tasks_over ON bgtasks_tasks (expire_at + expires_after) WHERE expire_at IS NOT NULL;
CREATE INDEX bgtasks_tasks_failed ON bgtasks_tasks (name, completed_at) WHERE status = 'failed';
CREATE INDEX bgtasks_tasks_waiting ON bgtasks_tasks (status, owner) WHERE status = 'started';
CREATE INDEX bgtasks_tasks_leases ON bgtasks_tasks (lease_until, name, worker) WHERE status = 'processing';
CREATE INDEX bgtasks_tasks_queue ON bgtasks_tasks (status, place, name, queue) WHERE status = 'started';
CREATE UNIQUE INDEX bgtasks_tasks_scope ON bgtasks_tasks (idempotency_scope) WHERE idempotency_scope IS NOT NULL;
COMMIT;
