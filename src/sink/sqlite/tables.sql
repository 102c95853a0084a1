CREATE TABLE documents(
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  fetched_at INTEGER NOT NULL,
  host TEXT NOT NULL,
  language TEXT,
  date TEXT,
  words INTEGER NOT NULL,
  chars INTEGER NOT NULL,
  text_hash TEXT NOT NULL,
  language_confidence REAL NOT NULL,
  url TEXT NOT NULL,
  final_url TEXT NOT NULL,
  canonical TEXT,
  author TEXT,
  site_name TEXT,
  title TEXT,
  attrs TEXT NOT NULL,
  description TEXT,
  text TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE search USING fts5(
  title, description, text,
  content = 'documents', content_rowid = 'n',
  tokenize = "unicode61 remove_diacritics 2");
INSERT INTO search(search, rank) VALUES ('rank', 'bm25(8.0, 2.0, 1.0)');
CREATE TRIGGER documents_insert AFTER INSERT ON documents BEGIN
  INSERT INTO search(rowid, title, description, text) VALUES (new.n, new.title, new.description, new.text);
END;
CREATE TRIGGER documents_delete AFTER DELETE ON documents BEGIN
  INSERT INTO search(search, rowid, title, description, text)
  VALUES ('delete', old.n, old.title, old.description, old.text);
END;
CREATE TRIGGER documents_update AFTER UPDATE OF n, title, description, text ON documents
WHEN old.n IS NOT new.n OR old.title IS NOT new.title OR old.description IS NOT new.description OR old.text IS NOT new.text
BEGIN
  INSERT INTO search(search, rowid, title, description, text)
  VALUES ('delete', old.n, old.title, old.description, old.text);
  INSERT INTO search(rowid, title, description, text) VALUES (new.n, new.title, new.description, new.text);
END;
