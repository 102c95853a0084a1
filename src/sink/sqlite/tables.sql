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
INSERT INTO search(search, rank) VALUES ('hashsize', 16777216);
CREATE TRIGGER documents_delete AFTER DELETE ON documents BEGIN
  INSERT INTO search(search, rowid, title, description, text)
  VALUES ('delete', old.n, old.title, old.description, old.text);
END;
