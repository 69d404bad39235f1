package objectstore_test

import "os"

const childDir = "OBJECTSTORE_CHILD_DIR"

func childMain(dir string) { os.Exit(0) }
