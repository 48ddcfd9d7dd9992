# SPDX-License-Identifier: MIT
# A process for each URL.
import multiprocessing
import sys
import urllib.request


def request_url(url):
    with urllib.request.urlopen(url) as page:
        print("%s: %d bytes" % (url, len(page.read())))


if __name__ == "__main__":
    url_list = sys.argv[1:]
    task_list = [multiprocessing.Process(target=request_url, args=(url,)) for url in url_list]
    [task.start() for task in task_list]
    [task.join() for task in task_list]
