CREATE VIRTUAL TABLE search USING fts5(
  title, description, text, author, final_url,
  content = 'documents', content_rowid = 'n',
  tokenize = "unicode61 remove_diacritics 2");
INSERT INTO search(search, rank) VALUES ('rank', 'bm25(8.0, 2.0, 1.0, 4.0, 1.0)');
INSERT INTO search(search, rank) VALUES ('hashsize', 16777216);
CREATE TRIGGER documents_delete AFTER DELETE ON documents BEGIN
  INSERT INTO search(search, rowid, title, description, text, author, final_url)
  VALUES ('delete', old.n, old.title, old.description, old.text, old.author, old.final_url);
END;
