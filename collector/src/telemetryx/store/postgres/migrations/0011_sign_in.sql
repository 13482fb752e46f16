-- People who sign in at a provider (OpenID Connect): who they are there. They have no password here.

ALTER TABLE account ADD COLUMN issuer TEXT COLLATE "C";
ALTER TABLE account ADD COLUMN subject TEXT COLLATE "C";
CREATE UNIQUE INDEX account_subject ON account(issuer, subject);
