# The words that people try; everything is in dev.py.
.PHONY: demo test check format bench dev-install build generate lock setup clean help

dev-install:
	python3 dev.py install

demo test check format bench build generate lock setup clean help:
	python3 dev.py $@ $(ARGS)
