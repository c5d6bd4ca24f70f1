-- A journal as the program left it that knew version 1 of its tables: PRAGMA user_version.
PRAGMA page_size = 4096;
PRAGMA auto_vacuum = 1;
PRAGMA application_id = 1466323557;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE result (
        digest      TEXT PRIMARY KEY, -- of the destination and the whole request
        destination TEXT NOT NULL,    -- what is meant for one is never sent to another
        state       TEXT NOT NULL CHECK (state IN ('running', 'owed', 'refused', 'reported')),
        operation   TEXT NOT NULL,
        record_id   TEXT NOT NULL,
        region      TEXT,             -- that it is to be sent to; NULL: whichever is set
        request     TEXT,             -- JSON; NULL once it is reported
        owner       INTEGER,          -- whose lock tells whether somebody works on it
        since       REAL NOT NULL,    -- seconds since 1970; for people, and for the order
        tries       INTEGER NOT NULL DEFAULT 0,
        last_error  TEXT
    );
INSERT INTO "result" VALUES('sandbox-f44db38000927b726d49c6cd64a818a20f3ca114a60850d94012373f15a69b00','sandbox','owed','provision','rec-owed','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-owed", "Status": "SUCCEEDED", "IdempotencyToken": "28b4f101f06a98f74949e428400ce848bec88a3bd3c4614c17268fe5760a3e09"}',NULL,1700000060.0,1,'no route');
INSERT INTO "result" VALUES('aws-4ffd1ed6ffab75acd3a4392822a51a703106c742bf196006f513b25b78b73e37','aws','owed','provision','rec-aws','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-aws", "Status": "SUCCEEDED", "IdempotencyToken": "ac55bde36ea35aacd5313eb737bca917813a367478838b8640caca8c5f981d6e"}',4098,1700000120.0,0,NULL);
INSERT INTO "result" VALUES('sandbox-9ccd9b75f0dca9f81fbce11d37fd8f7209b9cf383ebb04d0f5bb8648eaf65039','sandbox','owed','update','rec-died','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-died", "Status": "FAILED", "FailureReason": "The engine''s process ended before Terraform did, so how far Terraform came is not known: its host may have failed.", "IdempotencyToken": "06272c34e0dd08523afacb1950b5dde4206df36407eb680a7783c462ee1e2dd7"}',NULL,1700000180.0,1,'no route');
INSERT INTO "result" VALUES('sandbox-fcc394a3bb3a2f228e1c9aed9b9e3fdd9390aaa2a770e9024d5b802bd1726071','sandbox','refused','provision','rec-refused','us-east-1','{"RecordId":"rec-refused","Status":"SUCCEEDED","IdempotencyToken":"55ab5bf6f356b129297db79c230d07bb6496ce814fbf7cbbf93bb33915567acb"}',NULL,1700000240.0,1,'InvalidParametersException: no');
INSERT INTO "result" VALUES('sandbox-f24ab0bea364e84beaba43a4863d4ff461aefbb1751921033db6ac3d23ac1061','sandbox','reported','provision','rec-reported',NULL,NULL,NULL,1700000360.0,1,NULL);
INSERT INTO "result" VALUES('sandbox-915a2ac9f3c420c393fb3f3c770daaf30157f590c2b1f0f62ef55a815db9fdb3','sandbox','owed','provision','rec-presumed','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-presumed", "Status": "FAILED", "FailureReason": "The engine''s process ended before Terraform did, so how far Terraform came is not known: its host may have failed.", "IdempotencyToken": "2b5ddbff3b775f6d09583c4beee208ebb0eb02507eb458e8e2317f133ba0040b"}',NULL,1700000420.0,1,'no route');
INSERT INTO "result" VALUES('sandbox-d4d841cb118213e7f636dc9334daf0f1d365934e08e9003b172b0b807a882896','sandbox','owed','provision','rec-presumed','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-presumed", "Status": "SUCCEEDED", "IdempotencyToken": "ef32917a3c36f1eac96275d9969fd771d8fcc680fab48b1a5070d5190cae0469"}',4104,1700000480.0,0,NULL);
INSERT INTO "result" VALUES('sandbox-bdb2e833d538d8d33f44655c4d9a02592c8241631a0350e8733b01034ff6e854','sandbox','owed','provision','rec-two','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-two", "Status": "SUCCEEDED", "IdempotencyToken": "2b01f00e48e0458bef979b09026809ceb60437e98270cec1048dfb2a5614920e"}',4105,1700000540.0,0,NULL);
INSERT INTO "result" VALUES('sandbox-351b1200e81cf59202546dc401ffe8fa289f2162e110a4bebe59a8a9000b541c','sandbox','owed','provision','rec-two','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-two", "Status": "FAILED", "FailureReason": "Another one", "IdempotencyToken": "4bb9ac113d1aaba56b6bc21f61de9209155d98760eaa2caf9abaabefb36d78a8"}',4106,1700000600.0,0,NULL);
INSERT INTO "result" VALUES('sandbox-fa466ff5f2b30b246a4879ede85e744030758eae9b1d9764e2e4d4df712319c2','sandbox','reported','provision','rec-late',NULL,NULL,NULL,1700000720.0,1,NULL);
INSERT INTO "result" VALUES('sandbox-9d5dd4edcb390a8976c49c4ca0e08c07376cae86eb56fad46b0470330817b516','sandbox','refused','provision','rec-late','us-east-1','{"RecordId":"rec-late","Status":"FAILED","FailureReason":"Too late","IdempotencyToken":"7ac125022cef39fb451e19e6a3ae076e03b3e393c259f29d22ddaf92a5796bb3"}',NULL,1700000780.0,1,'InvalidParametersException: no');
INSERT INTO "result" VALUES('sandbox-959b15809a7476d17cf48d361409116ae0fd54a558d6649a033ea09bcaa05a9f','sandbox','refused','provision','rec-again','us-east-1','{"RecordId":"rec-again","Status":"SUCCEEDED","IdempotencyToken":"0588c0e8326147b05382ba1b5daab9347b5139cc56be4a33e220fbce917dba66"}',NULL,1700000840.0,1,'InvalidParametersException: no');
INSERT INTO "result" VALUES('sandbox-30442ba2787be661f99247e83222003a50466a86fd1bea67239f6920d1c7af73','sandbox','running','provision','rec-again','us-east-1',printf('%4096s', '') || '{"WorkflowToken": "Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-Zq7-", "RecordId": "rec-again", "Status": "FAILED", "FailureReason": "The engine''s process ended before Terraform did, so how far Terraform came is not known: its host may have failed.", "IdempotencyToken": "711a6f167d04df2f1f8a2b6de0d2741b8c7e653e717923090c4a2de2517de836"}',4110,1700000900.0,0,NULL);
CREATE INDEX pending ON result (state, since) WHERE state != 'reported';
COMMIT;
