-- People who sign in at a provider (OpenID Connect): who they are there. They have no password here.

ALTER TABLE account ADD COLUMN issuer TEXT;
ALTER TABLE account ADD COLUMN subject TEXT;
CREATE UNIQUE INDEX account_subject ON account(issuer, subject);
