-- For the people and programs that read: a role whose queries see each event once in every table of Ponix,
-- and read only the parts of `data` that they ask for. Run it as a user who may manage access, then give the
-- role to your readers: GRANT ponix_reader TO somebody; ALTER USER somebody DEFAULT ROLE ponix_reader.
CREATE SETTINGS PROFILE IF NOT EXISTS ponix_reader
    SETTINGS final = 1, do_not_merge_across_partitions_select_final = 1;
CREATE ROLE IF NOT EXISTS ponix_reader SETTINGS PROFILE 'ponix_reader';
GRANT SELECT ON ponix.* TO ponix_reader;
