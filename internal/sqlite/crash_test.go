package sqlite_test

func child() {}
