package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// pipeline is a flush: statements that are sent together and whose answers are
// read in order. The server skips the rest after the first that fails.
type pipeline struct {
	batch pgx.Batch
	read  []func(pgx.BatchResults) error
}

// exec adds a statement whose rows do not matter.
func (p *pipeline) exec(sql string, args ...any) {
	p.batch.Queue(sql, args...)
	p.read = append(p.read, func(br pgx.BatchResults) error {
		_, err := br.Exec()
		return err
	})
}

// query adds a statement; row is called at each row.
func (p *pipeline) query(row func(pgx.Rows) error, sql string, args ...any) {
	p.batch.Queue(sql, args...)
	p.read = append(p.read, func(br pgx.BatchResults) error {
		rows, err := br.Query()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := row(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// command adds a statement whose tag is kept.
func (p *pipeline) command(tag *string, sql string) {
	p.batch.Queue(sql)
	p.read = append(p.read, func(br pgx.BatchResults) error {
		ct, err := br.Exec()
		*tag = ct.String()
		return err
	})
}

// affect adds a statement of which the number of affected rows is kept.
func (p *pipeline) affect(n *int64, sql string, args ...any) {
	p.batch.Queue(sql, args...)
	p.read = append(p.read, func(br pgx.BatchResults) error {
		ct, err := br.Exec()
		*n = ct.RowsAffected()
		return err
	})
}

// run sends everything and reads the answers. failed is the position of the
// statement whose answer was an error or did not come; it means nothing where
// err is nil.
func (p *pipeline) run(ctx context.Context, conn *pgx.Conn) (failed int, err error) {
	br := conn.SendBatch(ctx, &p.batch)
	for i, read := range p.read {
		if err := read(br); err != nil {
			_ = br.Close() // says the same again
			return i, err
		}
	}
	return len(p.read), br.Close()
}
