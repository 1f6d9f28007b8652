"""Verifies all DKIM signatures of each message of a folder with dkimpy, or its ARC chain.

usage: verify.py FOLDER DNS.json [arc]
Prints for each file: name, number of signatures or sets, and "pass" or what failed.
"""
import json, os, sys

import dkim

folder, records = sys.argv[1], json.load(open(sys.argv[2]))


def dnsfunc(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    record = records.get(name.rstrip("."))
    return record.encode() if record else None


def chain(message):
    """What the chain of a message is worth, and how many sets it has."""
    try:
        worth, sets, reason = dkim.arc_verify(message, dnsfunc=dnsfunc)
    except Exception as error:  # whatever it is, it is no pass
        return 0, f"{type(error).__name__}: {error}"
    worth = worth.decode()
    return len(sets), worth if worth == "pass" else f"{worth}: {reason}"


for name in sorted(os.listdir(folder)):
    message = open(os.path.join(folder, name), "rb").read()
    if sys.argv[3:] == ["arc"]:
        print(name, *chain(message), sep="\t")
        continue
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
