"""Verifies all DKIM signatures of each message of a folder with dkimpy.

usage: verify.py FOLDER DNS.json
Prints for each file: name, number of signatures, and "pass" or what failed.
"""
import json, os, sys

import dkim

folder, records = sys.argv[1], json.load(open(sys.argv[2]))


def dnsfunc(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    record = records.get(name.rstrip("."))
    return record.encode() if record else None


for name in sorted(os.listdir(folder)):
    message = open(os.path.join(folder, name), "rb").read()
    verifier = dkim.DKIM(message, minkey=1024)
    count = sum(1 for field, _ in verifier.headers if field.lower() == b"dkim-signature")
    said = []
    for index in range(int(open(os.path.join(folder + ".counts", name)).read())):
        try:
            ok = verifier.verify(idx=index, dnsfunc=dnsfunc)
        except Exception as error:  # whatever it is, it is no pass
            ok = f"{type(error).__name__}: {error}"
        if ok is not True:
            said.append(f"signature {index}: {ok}")
    print(name, count, "; ".join(said) or "pass", sep="\t")
