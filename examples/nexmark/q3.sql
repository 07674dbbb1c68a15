-- Local item suggestion: who sells something of category 10 in Oregon, Idaho or California?
CREATE MATERIALIZED VIEW q3 AS
SELECT
    P.name, P.city, P.state, A.id
FROM
    auction AS A INNER JOIN person AS P on A.seller = P.id
WHERE
    A.category = 10 and (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA');
