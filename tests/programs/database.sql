-- What an application does with SQLite: schema, transactions, an index, a view, a trigger, full
-- text search, window functions, JSON, and every check that the database has of itself.
PRAGMA journal_mode = DELETE;
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT NOT NULL UNIQUE, balance INTEGER CHECK (balance >= 0));
CREATE TABLE ledger (id INTEGER PRIMARY KEY, account INTEGER REFERENCES account, amount INTEGER);
CREATE TRIGGER record AFTER UPDATE OF balance ON account
BEGIN
    INSERT INTO ledger (account, amount) VALUES (new.id, new.balance - old.balance);
END;
WITH RECURSIVE number (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM number WHERE n < 500)
INSERT INTO account SELECT n, printf('owner-%04d', n), n * 37 % 1009 FROM number;
CREATE INDEX by_balance ON account (balance, owner);

BEGIN;
UPDATE account SET balance = balance + 100 WHERE id % 3 = 0;
COMMIT;
BEGIN;
DELETE FROM account;
ROLLBACK;
SELECT count(*), sum(balance), max(owner) FROM account;
SELECT count(*), sum(amount) FROM ledger;

CREATE VIEW rich AS SELECT owner, balance, rank() OVER (ORDER BY balance DESC, owner) AS place FROM account;
SELECT * FROM rich WHERE place <= 5 ORDER BY place;

CREATE VIRTUAL TABLE note USING fts5 (body);
INSERT INTO note SELECT 'transfer of ' || amount || ' to account number ' || account FROM ledger;
SELECT count(*) FROM note WHERE note MATCH 'transfer AND 300';
SELECT snippet(note, 0, '[', ']', '…', 4) FROM note WHERE note MATCH 'number 300' ORDER BY rowid LIMIT 1;

SELECT json_group_array(json_object('owner', owner, 'balance', balance))
FROM (SELECT * FROM account ORDER BY balance, owner LIMIT 3);
CREATE TABLE picture (bytes BLOB);
INSERT INTO picture VALUES (zeroblob(300000));
SELECT length(bytes), hex(substr(bytes, 299999)) FROM picture;
DROP TABLE picture;
PRAGMA integrity_check;
PRAGMA foreign_key_check;
VACUUM;
