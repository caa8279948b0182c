module cloche/guest

go 1.22
