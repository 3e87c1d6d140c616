-- Which request asked for an export is kept in the log's table of answers, as that of every other request.
alter table artifacts drop column asked_by, drop column request_id, drop column request_sha256;
